"""Which filesystem a folder is on, by a table like /proc/mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.filesystems import network_filesystem

TABLE = """overlay / overlay rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sda1 /home/me/disk ext4 rw 0 0
//server/my\\040share /mnt/my\\040share cifs rw 0 0
10.0.0.1@tcp:/fs /scratch lustre rw 0 0
me@host: /mnt/ssh fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp/x", None),
        ("/home/me/runs/not/there/yet", "nfs4"),
        ("/home/me/disk/runs", None),
        ("/homes/x", None),
        ("/mnt/my share/x", "cifs"),
        ("/scratch", "lustre"),
        ("/mnt/ssh/x", "fuse.sshfs"),
    ],
)
def test_the_kind_of_a_network_filesystem(tmp_path: Path, path: str, kind: str | None) -> None:
    table = tmp_path / "mounts"
    table.write_text(TABLE)
    assert network_filesystem(Path(path), table) == kind


def test_a_system_without_the_table_and_this_very_one(tmp_path: Path) -> None:
    assert network_filesystem(tmp_path, tmp_path / "none") is None
    assert network_filesystem(Path("/proc")) is None
