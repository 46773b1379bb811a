"""Attempts that are handed over, that do not leave in time, or whose driver died: what is written down."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tiny
from fakes import FakePool, points_of
from rig import Rig, one_search

from orchestrator.ledger import Ended, Ledger, Opened, Started, read
from orchestrator.ports import Assignment, AttemptEnded, Outcome, PointsArrived, PoolEvent
from orchestrator.status import sweep_status
from orchestrator.steering import Steering
from orchestrator.sweep import Ending, Requests
from orchestrator.trial import TrialState
from trainers.api import Cause


def handed_over(assignment: Assignment) -> Sequence[PoolEvent]:
    """Half of the curve, and a worker that is taken away."""
    key, attempt = assignment.spec.key, assignment.attempt
    half = points_of(assignment)[: len(assignment.spec.eval_tokens) // 2]
    return (
        PointsArrived(key=key, attempt=attempt, points=half),
        AttemptEnded(key=key, attempt=attempt, outcome=Outcome.PAUSED, cause=Cause.PREEMPTED),
    )


@dataclass
class Stubborn(FakePool):
    """Nobody in it leaves."""

    waits: int = 0

    def wait(self, timeout_s: float) -> Sequence[PoolEvent]:
        self.waits += 1
        return super().wait(timeout_s) if self.waits < 3 else ()


def test_a_trial_that_was_handed_over_waits_and_has_its_cause(tmp_path: Path) -> None:
    rig = one_search(tmp_path)
    rig.pool = FakePool(ending=handed_over)
    rig.requests = Requests(pause=lambda: len(rig.pool.submitted) >= 40)
    rig.run()
    first = rig.trials[0]
    assert first.state is TrialState.WAITING
    assert first.cause is Cause.PREEMPTED
    assert first.failures[Cause.PREEMPTED] > 15  # more than any budget, and it still waits
    assert {event.state for event in rig.of(Ended)} == {TrialState.WAITING}


def test_who_does_not_leave_in_time_is_not_waited_for(tmp_path: Path) -> None:
    rig = Rig(tmp_path, pool=Stubborn())
    rig.requests = Requests(pause=lambda: rig.pool.waits > 3, grace_s=lambda: 0.2)
    began = time.monotonic()
    assert rig.run() is Ending.PAUSED
    assert 0.2 < time.monotonic() - began < 5
    left = [event for event in rig.of(Ended) if event.message == "it did not leave in time"]
    assert len(left) == 2
    assert not any(trial.state is TrialState.RUNNING or trial.failures for trial in rig.trials)
    assert rig.tracker.shown == {trial.key: trial for trial in rig.trials}
    assert Rig(tmp_path).run() is Ending.DONE


def test_what_a_killed_driver_left_running_is_over_before_anything_starts(tmp_path: Path) -> None:
    rig = Rig(tmp_path, pool=Stubborn(slots=4))
    rig.requests = Requests(pause=lambda: rig.pool.waits > 3, grace_s=lambda: 0.0)
    rig.run()
    cut_after_the_last_start(tmp_path)
    with Ledger.open(tmp_path) as ledger:  # as a new driver begins
        ledger.append(opened())
    left = [trial.key for trial in rig.trials if trial.state is TrialState.RUNNING]
    assert len(left) == 4
    again = Rig(tmp_path, pool=FakePool(slots=2))
    again.requests = Requests(pause=lambda: len(again.pool.submitted) == 2)
    again.run()
    over = [event for event in again.of(Ended) if event.cause is Cause.DRIVER_LOST]
    assert {event.key for event in over} == set(left)
    assert max(event.time for event in over) <= min(e.time for e in again.of(Started) if e.attempt == 2)
    steering = Steering(plan=again.plan, goal=again.goal)
    status = sweep_status(again.plan, read(tmp_path), now=time.time(), steering=steering)
    assert status.causes == {"driver lost": 4}
    assert len(status.running) == 0
    assert Rig(tmp_path).run() is Ending.DONE
    assert all(trial.state is TrialState.COMPLETED for trial in Rig(tmp_path).trials)


def cut_after_the_last_start(folder: Path) -> None:
    """The ledger of a driver that was killed then."""
    path = folder / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if b'"event":"started"' in line)
    path.write_bytes(b"".join(lines[: last + 1]))


def opened() -> Opened:
    return Opened(
        time=time.time(),
        sweep="tiny",
        sweep_id="1",
        plan=tiny.sweep().plan().fingerprint(),
        trainer_version="fake",
        software="test",
        slots=2,
    )
