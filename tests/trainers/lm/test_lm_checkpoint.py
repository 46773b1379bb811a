"""Checkpoints: whole or not there, fenced by attempt, with a word for a full disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainers.api import TrialFailed
from trainers.lm.checkpoint import Checkpoint, CheckpointFolder


def make(number: float) -> Checkpoint:
    return Checkpoint(tensors={"weight": torch.full((3, 4), number)}, state={"tokens": int(number), "lr": 0.1 + 0.2})


def tokens_of(folder: CheckpointFolder) -> int | None:
    found = folder.newest()
    return None if found is None else found.state["tokens"]


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    CheckpointFolder(tmp_path, attempt=1).save(make(7))
    found = CheckpointFolder(tmp_path, attempt=2).newest()
    assert torch.equal(found.tensors["weight"], make(7).tensors["weight"])
    assert found.state == make(7).state


def test_nothing_is_there_at_first_and_only_two_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, attempt=1)
    assert folder.newest() is None
    for number in range(5):
        folder.save(make(number))
    assert [path.name for path in sorted(tmp_path.glob("*.bin"))] == [
        "checkpoint-000004-1.bin",
        "checkpoint-000005-1.bin",
    ]
    assert json.loads((tmp_path / "checkpoint.json").read_text()) == {
        "attempt": 1,
        "newest": "checkpoint-000005-1.bin",
    }
    assert not list(tmp_path.glob(".*"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_a_flipped_bit_or_a_cut_is_seen_and_the_one_before_used(tmp_path: Path, data) -> None:
    folder = CheckpointFolder(tmp_path, attempt=1)
    folder.save(make(1))
    folder.save(make(2))
    newest = max(tmp_path.glob("*.bin"))
    whole = newest.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        newest.write_bytes(whole[:place])
    else:
        flipped = bytes([whole[place] ^ (1 << data.draw(st.integers(0, 7)))])
        newest.write_bytes(whole[:place] + flipped + whole[place + 1 :])
    assert tokens_of(folder) == 1


def test_a_damaged_pointer_is_no_obstacle(tmp_path: Path) -> None:
    CheckpointFolder(tmp_path, attempt=1).save(make(1))
    (tmp_path / "checkpoint.json").write_bytes(b"{")
    folder = CheckpointFolder(tmp_path, attempt=2)
    assert tokens_of(folder) == 1
    folder.save(make(2))
    assert tokens_of(folder) == 2


def test_an_older_attempt_stops(tmp_path: Path) -> None:
    older = CheckpointFolder(tmp_path, attempt=1)
    older.save(make(1))
    newer = CheckpointFolder(tmp_path, attempt=2)
    with pytest.raises(TrialFailed, match="attempt 2 took the trial over"):
        older.save(make(99))
    assert tokens_of(newer) == 1
    with pytest.raises(TrialFailed):
        CheckpointFolder(tmp_path, attempt=1)


FULL = """
import sys
from pathlib import Path
import torch
from trainers.api import TrialFailed
from trainers.lm import checkpoint
folder = checkpoint.CheckpointFolder(Path(sys.argv[1]), attempt=1)
try:
    folder.save(checkpoint.Checkpoint(tensors={"weight": torch.zeros(2_000_000)}, state={}))
except TrialFailed as failed:
    print(failed.cause.name, [p.name for p in Path(sys.argv[1]).iterdir() if p.name != "checkpoint.json"])
"""


def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A small tmpfs in a user namespace of its own: a real ENOSPC."""
    command = f"mount -t tmpfs -o size=1m none {tmp_path} && exec {sys.executable} -c '{FULL}' {tmp_path}"
    shown = subprocess.run(["unshare", "-rm", "sh", "-c", command], capture_output=True, text=True, check=False)
    if shown.returncode and "unshare" in shown.stderr:
        pytest.skip("no user namespaces here")
    assert shown.stdout.strip() == "DISK_FULL []", shown.stderr
