"""What an attempt finds, leaves behind, and does when it was given up."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from orchestrator.ports import Assignment, Resources, StorageRef
from orchestrator.storage.fence import Fence, claim
from orchestrator.storage.pull import pull
from orchestrator.storage.scratch import SCRATCH_VARIABLE, scratch
from orchestrator.storage.store import FolderStore, open_store
from orchestrator.storage.workspace import Pace, attempt_workspace
from trainers.api import Cause, CurvePoint, TrialFailed, TrialPaused
from trainers.session import TrialSession, run_trial
from trainers.synthetic import SyntheticTrainer

PATIENCE_S = 20.0
QUICK = Pace(every_s=0.02, leaving_patience_s=0.5)
BRIEF = Pace(every_s=0.02, patience_s=0.3, leaving_patience_s=0.3)


@pytest.fixture(autouse=True)
def scratch_root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(SCRATCH_VARIABLE, str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture
def assignment(make_spec, tmp_path) -> Assignment:
    FolderStore(tmp_path / "shared").put("driver/g000002/claim-x", b"")  # as its driver leaves, or a later one
    return Assignment(
        spec=make_spec("0123"),
        attempt=1,
        resources=Resources(),
        workspace=tmp_path / "work",
        storage=StorageRef(url=str(tmp_path / "shared"), sweep_id="id", generation=1),
    )


def never() -> bool:
    return False


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stored(assignment: Assignment, tmp_path: Path) -> dict[str, bytes]:
    """What another node would find."""
    place = tmp_path / "found"
    pull(FolderStore(tmp_path / "shared"), assignment.spec.key, Fence(99, 0), place)
    return {path.name: path.read_bytes() for path in place.iterdir()}


def test_without_storage_it_is_the_trials_own_folder(assignment, tmp_path):
    with attempt_workspace(replace(assignment, storage=None), never) as workspace:
        assert (workspace.folder, workspace.start) == (tmp_path / "work", 1)


def test_a_paused_attempt_leaves_everything_and_a_completed_one_its_points(assignment, tmp_path, scratch_root):
    with pytest.raises(TrialPaused), attempt_workspace(assignment, never) as workspace:
        (workspace.folder / "checkpoint").write_bytes(b"half way")
        (workspace.folder / "points.jsonl").write_bytes(b"half\n")
        raise TrialPaused("asked to")
    assert stored(assignment, tmp_path) == {"checkpoint": b"half way", "points.jsonl": b"half\n"}
    with attempt_workspace(replace(assignment, attempt=2), never) as workspace:
        assert workspace.folder.is_relative_to(scratch_root)
        assert (workspace.folder / "checkpoint").read_bytes() == b"half way"
        (workspace.folder / "points.jsonl").write_bytes(b"half\nwhole\n")
    assert stored(assignment, tmp_path) == {"points.jsonl": b"half\nwhole\n"}
    assert [path for path in scratch_root.rglob("*") if path.is_file()] == []


def test_snapshots_are_pushed_while_it_trains(assignment, tmp_path):
    with attempt_workspace(assignment, never, QUICK) as workspace:
        (workspace.folder / "checkpoint").write_bytes(b"one")
        until(lambda: stored(assignment, tmp_path).get("checkpoint") == b"one")
        (workspace.folder / "checkpoint").write_bytes(b"another")
        until(lambda: stored(assignment, tmp_path).get("checkpoint") == b"another")


def test_an_attempt_that_lives_on_behind_a_cut_link_stops(assignment, tmp_path):
    newer = replace(assignment, storage=replace(assignment.storage, generation=2))

    def live_on() -> None:
        with attempt_workspace(assignment, never, QUICK) as workspace:
            (workspace.folder / "points.jsonl").write_bytes(b"old\n")
            until(lambda: stored(assignment, tmp_path) != {})
            claim(FolderStore(tmp_path / "shared"), "0123", Fence(2, 1))
            (workspace.folder / "points.jsonl").write_bytes(b"old\nolder\n")
            until(workspace.should_stop)
            raise TrialPaused("as a trainer does then")

    with pytest.raises(TrialFailed, match="has taken trial 0123 over") as stopped:
        live_on()
    assert stopped.value.cause is Cause.WORKER_LOST
    assert stored(assignment, tmp_path) == {"points.jsonl": b"old\n"}
    with pytest.raises(TrialPaused), attempt_workspace(newer, never) as workspace:
        assert workspace.start == 2
        raise TrialPaused("later")
    with pytest.raises(TrialFailed) as refused, attempt_workspace(assignment, never):
        pytest.fail("it must not begin")
    assert refused.value.cause is Cause.WORKER_LOST


class Slowly(MemoryFileSystem):
    """A storage whose uploads take half a second."""

    protocol = "slowly"
    begun = threading.Event()

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("slowly://"))

    def _open(self, path, mode="rb", **options):
        if mode == "wb":
            self.begun.set()
            time.sleep(0.5)
        return super()._open(path, mode, **options)


def test_an_attempt_that_leaves_waits_longer_for_a_large_snapshot_than_for_a_silent_storage(assignment, tmp_path):
    fsspec.register_implementation("slowly", Slowly, clobber=True)
    store = open_store(f"slowly://{tmp_path.name}")
    store.put("driver/g000001/claim-x", b"")
    assignment = replace(assignment, storage=StorageRef(url=store.address, sweep_id="id", generation=1))
    pace = Pace(every_s=0.02, patience_s=PATIENCE_S, leaving_patience_s=0.1)
    with pytest.raises(TrialPaused), attempt_workspace(assignment, lambda: True, pace) as workspace:
        (workspace.folder / "checkpoint").write_bytes(b"large")
        assert Slowly.begun.wait(PATIENCE_S)
        raise TrialPaused("asked to")
    pull(store, assignment.spec.key, Fence(99, 0), tmp_path / "found")
    assert (tmp_path / "found" / "checkpoint").read_bytes() == b"large"


def test_a_trial_that_ended_has_ended_whatever_its_storage_does(assignment, tmp_path, caplog):
    shared, away = tmp_path / "shared", tmp_path / "away"
    with attempt_workspace(assignment, never, BRIEF) as workspace:
        (workspace.folder / "checkpoint").write_bytes(b"half way")
        (workspace.folder / "points.jsonl").write_bytes(b"half\n")
        until(lambda: set(stored(assignment, tmp_path)) == {"checkpoint", "points.jsonl"})
        shared.rename(away)
        (workspace.folder / "points.jsonl").write_bytes(b"half\nwhole\n")
    assert "storage keeps its last snapshot instead of its points" in caplog.text
    assert not shared.exists()  # nothing is written where the storage was
    away.rename(shared)
    assert stored(assignment, tmp_path) == {"checkpoint": b"half way", "points.jsonl": b"half\n"}


def test_a_paused_attempt_goes_on_from_its_last_snapshot_when_the_storage_is_back(assignment, tmp_path, caplog):
    shared, away = tmp_path / "shared", tmp_path / "away"

    with pytest.raises(TrialPaused), attempt_workspace(assignment, lambda: True, BRIEF) as workspace:
        (workspace.folder / "checkpoint").write_bytes(b"half way")
        until(lambda: stored(assignment, tmp_path).get("checkpoint") == b"half way")
        shared.rename(away)
        (workspace.folder / "checkpoint").write_bytes(b"further")
        raise TrialPaused("asked to")
    assert "no last snapshot, the trial goes on from the one before" in caplog.text
    for attempt in (2, 3):
        with (
            pytest.raises(TrialFailed, match="is it mounted") as failed,
            attempt_workspace(replace(assignment, attempt=attempt), never, BRIEF),
        ):
            pytest.fail("it must not begin again from nothing")
        assert failed.value.cause is Cause.STORAGE_UNREACHABLE
        shared.mkdir(exist_ok=True)  # where nothing is mounted
    assert list(shared.iterdir()) == []
    shared.rmdir()
    away.rename(shared)
    with attempt_workspace(replace(assignment, attempt=4), never) as workspace:
        assert (workspace.folder / "checkpoint").read_bytes() == b"half way"


def test_snapshots_go_on_when_the_storage_is_back(assignment, tmp_path):
    shared, away = tmp_path / "shared", tmp_path / "away"
    with attempt_workspace(assignment, never, QUICK) as workspace:
        (workspace.folder / "checkpoint").write_bytes(b"one")
        until(lambda: stored(assignment, tmp_path).get("checkpoint") == b"one")
        shared.rename(away)
        (workspace.folder / "checkpoint").write_bytes(b"another")
        time.sleep(0.2)
        assert not shared.exists()
        away.rename(shared)
        until(lambda: stored(assignment, tmp_path).get("checkpoint") == b"another")


def test_a_storage_that_comes_back_in_time_costs_nothing(assignment, tmp_path):
    shared, away = tmp_path / "shared", tmp_path / "away"
    shared.rename(away)
    back = threading.Timer(0.5, lambda: away.rename(shared))
    back.start()
    with attempt_workspace(assignment, never, Pace(patience_s=PATIENCE_S)) as workspace:
        assert workspace.start == 1
    back.join(PATIENCE_S)


def test_no_attempt_waits_for_storage_until_its_own_time_out(assignment, tmp_path):
    (tmp_path / "shared").rename(tmp_path / "away")
    hasty = replace(assignment, resources=Resources(timeout_s=1.0))
    began = time.monotonic()
    with pytest.raises(TrialFailed) as failed, attempt_workspace(hasty, never):
        pytest.fail("it must not begin")
    assert failed.value.cause is Cause.STORAGE_UNREACHABLE
    assert time.monotonic() - began < 1.0


def test_a_disk_of_the_node_that_is_no_use_is_no_fault_of_the_storage(assignment, scratch_root):
    scratch_root.write_bytes(b"no folder")
    with pytest.raises(TrialFailed) as failed, attempt_workspace(assignment, never, BRIEF):
        pytest.fail("it must not begin")
    assert failed.value.cause is Cause.WORKER_LOST


def test_what_the_user_did_wrong_stays_the_cause(assignment, tmp_path):
    with pytest.raises(TrialFailed, match="a mistake") as failed, attempt_workspace(assignment, never) as workspace:
        (workspace.folder / "points.jsonl").write_bytes(b"x\n")
        raise TrialFailed(Cause.USER_ERROR, "a mistake")
    assert failed.value.cause is Cause.USER_ERROR
    assert stored(assignment, tmp_path) == {"points.jsonl": b"x\n"}


def test_points_come_once_where_the_ledger_counts_again(assignment, tmp_path):
    """Attempt 2 trained half the curve, the ledger forgot it, and a new driver's attempt 1 goes on."""
    delivered: list[CurvePoint] = []

    def train(assignment: Assignment, stop: Callable[[], bool]) -> None:
        with (
            attempt_workspace(assignment, never) as workspace,
            TrialSession(
                spec=assignment.spec,
                attempt=workspace.start,
                workspace=workspace.folder,
                deliver=delivered.extend,
                stop=stop,
            ) as session,
        ):
            run_trial(SyntheticTrainer({"seconds_per_trial": 0.3}), assignment.spec, session)

    with pytest.raises(TrialPaused):
        train(replace(assignment, attempt=2), lambda: bool(delivered))
    first = list(delivered)
    assert 0 < len(first) < 3
    delivered.clear()
    train(replace(assignment, attempt=1, storage=replace(assignment.storage, generation=2)), never)
    assert [point.tokens for point in delivered] == [2**16, 2**18, 2**19]
    assert delivered[: len(first)] == first
    lines = stored(assignment, tmp_path)["points.jsonl"].decode().splitlines()
    assert sum('"point"' in line for line in lines) == 3


# The node's disk


def test_what_a_killed_process_left_is_swept_and_a_living_ones_is_not(scratch_root):
    code = (
        "import os, signal, sys\n"
        "from orchestrator.storage.scratch import scratch\n"
        "with scratch('id', 'dead') as folder:\n"
        "    folder.mkdir()\n"
        "    (folder / 'large').write_bytes(b'x' * 1000)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], env=dict(os.environ), timeout=60, check=False)
    assert (scratch_root / "id/dead/large").exists()
    with scratch("id", "first") as first:
        first.mkdir()
        assert not (scratch_root / "id/dead").exists()
        with scratch("id", "second"):
            assert first.exists()
    assert list((scratch_root / "id").iterdir()) == []


def test_folders_of_other_sweeps_stay(scratch_root):
    (scratch_root / "other").mkdir(parents=True)
    (scratch_root / "other/key.lock").touch()
    with scratch("id", "mine"):
        pass
    assert (scratch_root / "other/key.lock").exists()
