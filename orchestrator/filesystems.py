"""Which filesystem a folder lies on: databases do not survive on some."""

from __future__ import annotations

import re
from pathlib import Path

# Filesystems of other machines, by their names in /proc/mounts. SQLite's locks do not hold on them.
_NETWORK = re.compile(r"nfs\d?|cifs|smb\d?|smbfs|lustre|beegfs|gpfs|ceph|glusterfs|pvfs2|orangefs|afs|9p|fuse\.\S+")
_MOUNTS = Path("/proc/mounts")


def network_filesystem(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """The kind of network filesystem that a path (which need not be there yet) lies on; None for a disk of this host.

    None also where the system has no such table.
    """
    try:
        table = mounts.read_text()
    except OSError:
        return None
    place = path.resolve()
    found: tuple[int, str] = (0, "")
    for line in table.splitlines():
        _, where, kind, *_ = line.split(" ")
        root = Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), where))
        depth = len(root.parts)
        if depth >= found[0] and place.is_relative_to(root):
            found = (depth, kind)
    return found[1] if _NETWORK.fullmatch(found[1]) else None
