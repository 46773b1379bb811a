"""The WorkerPool contract, on threads, on Ray, and on the simulation's clock."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from orchestrator.ports import (
    Assignment,
    AttemptEnded,
    Outcome,
    PointsArrived,
    PoolEvent,
    Resources,
    TrainerRef,
    WorkerPool,
)
from search_spaces.errors import InputError
from trainers.api import Cause, CurvePoint, TrialSpec

PATIENCE_S = 60.0
SYNTHETIC = TrainerRef(name="synthetic")
SLOW = TrainerRef(name="synthetic", options={"seconds_per_trial": 1.2})

# What a user might write. Each trial's key says what is to happen to it.
USER_MODULE = """
import os
import sys
import time
from trainers.api import CurvePoint

version = "1"


def train(spec, session):
    (session.workspace / "pid").write_text(str(os.getpid()))
    session.emit(CurvePoint(tokens=spec.eval_tokens[0], loss=5.0, time=time.time()))
    if spec.key == "raises":
        raise ValueError("a mistake in the user's code")
    if spec.key == "exits":
        sys.exit(3)
    if spec.key == "memory":
        raise MemoryError
    if spec.key == "disk":
        raise OSError(28, "No space left on device")
    if spec.key == "short":
        return
    while spec.key == "goes" and session.attempt == 1:
        if session.should_stop():
            return
        time.sleep(0.02)
    while spec.key == "deaf" and session.attempt == 1:
        time.sleep(0.02)
    while spec.key == "hangs" and session.attempt == 1 and not session.should_stop():
        time.sleep(0.02)
    for tokens in spec.eval_tokens[1:]:
        session.emit(CurvePoint(tokens=tokens, loss=4.0, time=time.time()))
"""

StartPool = Callable[[TrainerRef], WorkerPool]


ALL = pytest.mark.parametrize("start_pool", ["local", "ray", "simulated"], indirect=True)


@pytest.fixture(scope="module", params=["local", "ray"])
def start_pool(request: pytest.FixtureRequest) -> Iterator[StartPool]:
    """Starts a pool of two slots; the last one is used again by the next test that wants the same trainer."""
    running: dict[str, WorkerPool] = {}

    def close() -> None:
        while running:
            running.popitem()[1].close()

    def start(trainer: TrainerRef) -> WorkerPool:
        if repr(trainer) not in running:
            close()
            running[repr(trainer)] = pool = make(trainer)
            pool.start()
        return running[repr(trainer)]

    def make(trainer: TrainerRef) -> WorkerPool:
        if request.param == "simulated":
            return simulated(trainer)
        if request.param == "local":
            from orchestrator.engine.local import LocalPool

            return LocalPool(trainer=trainer, slots=2)
        from orchestrator.engine.pool import RayPool

        request.getfixturevalue("ray_session")
        return RayPool(trainer=trainer)

    yield start
    close()


def simulated(trainer: TrainerRef) -> WorkerPool:
    from orchestrator.engine.simulated import SimulatedPool
    from trainers.synthetic import SyntheticTrainer

    def seconds(spec: TrialSpec) -> float:
        return float(spec.tokens)

    options = {**trainer.options, "seconds_per_trial": 0.0}
    return SimulatedPool(trainer=SyntheticTrainer(options), slots=2, smallest=Resources(), seconds=seconds)


@pytest.fixture
def user_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainerRef:
    """A module of the user's in the current folder, named so that every test has its own."""
    name = f"contract_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(USER_MODULE)
    monkeypatch.chdir(tmp_path)
    return TrainerRef(name=f"{name}:train")


def assignment_of(spec: TrialSpec, folder: Path, attempt: int = 1) -> Assignment:
    return Assignment(spec=spec, attempt=attempt, resources=Resources(), workspace=folder / spec.key)


def until_ended(pool: WorkerPool, *keys: str) -> list[PoolEvent]:
    """All events until each of the trials has ended."""
    events: list[PoolEvent] = []
    deadline = time.monotonic() + PATIENCE_S
    while {event.key for event in ends(events)} < set(keys):
        assert time.monotonic() < deadline, f"no end of {keys}; only {events}"
        events += pool.wait(0.5)
    return events


def until(pool: WorkerPool, arrived: Callable[[], bool]) -> list[PoolEvent]:
    events: list[PoolEvent] = []
    deadline = time.monotonic() + PATIENCE_S
    while not arrived():
        assert time.monotonic() < deadline
        events += pool.wait(0.05)
    return events


def ends(events: Sequence[PoolEvent]) -> list[AttemptEnded]:
    return [event for event in events if isinstance(event, AttemptEnded)]


def points(events: Sequence[PoolEvent], key: str) -> list[CurvePoint]:
    return [p for event in events if isinstance(event, PointsArrived) and event.key == key for p in event.points]


class TestWorkerPool:
    @ALL
    def test_all_trials_end_once_after_their_points(self, start_pool, make_spec, tmp_path):
        pool = start_pool(SYNTHETIC)
        waiting = [make_spec(f"k{i}", seed=i) for i in range(7)]
        keys = [spec.key for spec in waiting]
        events: list[PoolEvent] = []
        while waiting or pool.busy:
            while waiting and pool.has_room(Resources()):
                pool.submit(assignment_of(waiting.pop(), tmp_path))
            assert pool.busy <= pool.slots == 2
            events += pool.wait(5.0)
        assert sorted(event.key for event in ends(events)) == sorted(keys)
        for key in keys:
            mine = [event for event in events if event.key == key]
            assert isinstance(mine[-1], AttemptEnded)
            assert [point.tokens for point in points(mine, key)] == [2**16, 2**18, 2**19]
            assert mine[-1].outcome is Outcome.COMPLETED
            assert mine[-1].result is not None
            assert mine[-1].result.final_loss == points(mine, key)[-1].loss

    @ALL
    def test_divergence_is_a_result(self, start_pool, make_spec, tmp_path):
        pool = start_pool(SYNTHETIC)
        pool.submit(assignment_of(make_spec("far", learning_rate=50.0), tmp_path))
        (end,) = ends(until_ended(pool, "far"))
        assert end.outcome is Outcome.DIVERGED
        assert end.result is not None
        assert end.result.diverged

    @ALL
    def test_asking_an_ended_trial_to_leave_does_nothing(self, start_pool, make_spec, tmp_path):
        pool = start_pool(SYNTHETIC)
        pool.submit(assignment_of(make_spec("first"), tmp_path))
        until_ended(pool, "first")
        pool.ask_to_leave("first")
        pool.submit(assignment_of(make_spec("second"), tmp_path))
        assert ends(until_ended(pool, "second"))[0].outcome is Outcome.COMPLETED

    def test_resources_that_fit_nowhere_are_refused(self, start_pool):
        pool = start_pool(SYNTHETIC)
        pool.check({"s1": Resources(cpus=2)})
        with pytest.raises(InputError, match=r"'s9'.*wants cpus: 3.*the nodes are 1 with cpus: 2"):
            pool.check({"s1": Resources(), "s9": Resources(cpus=3)})
        with pytest.raises(InputError, match=r"'s2'.*gpus: 1\.5"):
            pool.check({"s2": Resources(gpus=1.5)})

    @ALL
    def test_waiting_for_nothing_ends(self, start_pool):
        began = time.monotonic()
        assert not start_pool(SYNTHETIC).wait(0.1)
        assert time.monotonic() - began < PATIENCE_S / 2

    @ALL
    def test_room_is_taken_and_given_back(self, start_pool, make_spec, tmp_path):
        pool = start_pool(SYNTHETIC)
        for key in ("a", "b"):
            assert pool.has_room(Resources())
            pool.submit(assignment_of(make_spec(key), tmp_path))
        assert pool.busy == 2
        assert not pool.has_room(Resources())
        until_ended(pool, "a", "b")
        assert pool.busy == 0
        assert pool.has_room(Resources())

    @ALL
    def test_who_is_asked_to_leave_at_once_ends_once_and_may_come_again(self, start_pool, make_spec, tmp_path):
        pool = start_pool(SLOW)
        spec = make_spec("early")
        pool.submit(assignment_of(spec, tmp_path))
        pool.ask_to_leave("early")
        (end,) = ends(until_ended(pool, "early"))
        assert end.outcome is Outcome.PAUSED
        pool.submit(assignment_of(spec, tmp_path, attempt=2))
        (end,) = ends(until_ended(pool, "early"))
        assert (end.outcome, end.attempt) == (Outcome.COMPLETED, 2)

    def test_slots_are_used_at_once_and_given_back(self, start_pool, make_spec, tmp_path):
        pool = start_pool(SLOW)
        began = time.monotonic()
        pool.submit(assignment_of(make_spec("a"), tmp_path))
        assert pool.has_room(Resources())
        pool.submit(assignment_of(make_spec("b"), tmp_path))
        assert not pool.has_room(Resources())
        until_ended(pool, "a", "b")
        assert time.monotonic() - began < 2 * 1.2
        assert pool.busy == 0
        assert pool.has_room(Resources())

    def test_points_arrive_while_the_trial_runs(self, start_pool, make_spec, tmp_path):
        pool = start_pool(SLOW)
        pool.submit(assignment_of(make_spec("slow"), tmp_path))
        first = pool.wait(5.0)
        assert [point.tokens for point in points(first, "slow")] == [2**16]
        assert not ends(first)
        until_ended(pool, "slow")

    def test_asked_to_leave_pauses_and_goes_on_later(self, start_pool, make_spec, tmp_path):
        pool = start_pool(SLOW)
        spec = make_spec("leaves")
        pool.submit(assignment_of(spec, tmp_path))
        pool.wait(5.0)
        pool.ask_to_leave("leaves")
        (end,) = ends(until_ended(pool, "leaves"))
        assert end.outcome is Outcome.PAUSED
        pool.submit(assignment_of(spec, tmp_path, attempt=2))
        began = time.monotonic()
        events = until_ended(pool, "leaves")
        assert ends(events)[0].outcome is Outcome.COMPLETED
        assert ends(events)[0].attempt == 2
        assert time.monotonic() - began < 1.2
        assert [point.tokens for point in points(events, "leaves")] == [2**16, 2**18, 2**19]

    def test_an_unusable_trainer_is_refused_at_the_start(self, start_pool):
        with pytest.raises(InputError, match="unknown key 'noise'; did you mean 'noise_sd'"):
            start_pool(TrainerRef(name="synthetic", options={"noise": 1}))

    def test_failures_have_their_cause_and_the_pool_goes_on(self, start_pool, user_trainer, make_spec, tmp_path):
        pool = start_pool(user_trainer)
        causes = {
            "raises": Cause.USER_ERROR,
            "exits": Cause.USER_ERROR,
            "short": Cause.USER_ERROR,
            "memory": Cause.OUT_OF_HOST_MEMORY,
            "disk": Cause.DISK_FULL,
        }
        for key, cause in causes.items():
            pool.submit(assignment_of(make_spec(key), tmp_path))
            (end,) = ends(until_ended(pool, key))
            assert (end.outcome, end.cause) == (Outcome.FAILED, cause)
            if key == "raises":
                assert "a mistake in the user's code" in end.message
                assert f"{user_trainer.name.partition(':')[0]}.py" in end.message
        pool.submit(assignment_of(make_spec("good"), tmp_path))
        assert ends(until_ended(pool, "good"))[0].outcome is Outcome.COMPLETED

    def test_an_attempt_that_takes_too_long_is_ended(self, start_pool, user_trainer, make_spec, tmp_path):
        pool = start_pool(user_trainer)
        for key, timeout_s in (("deaf", 1.0), ("good", 60.0)):
            resources = Resources(timeout_s=timeout_s)
            pool.submit(Assignment(spec=make_spec(key), attempt=1, resources=resources, workspace=tmp_path / key))
        found = {end.key: end for end in ends(until_ended(pool, "deaf", "good"))}
        assert found["good"].outcome is Outcome.COMPLETED
        assert (found["deaf"].outcome, found["deaf"].cause) == (Outcome.FAILED, Cause.TIMED_OUT)
        assert pool.busy == 0
        pool.submit(assignment_of(make_spec("deaf"), tmp_path, attempt=2))
        (end,) = ends(until_ended(pool, "deaf"))
        assert (end.outcome, end.attempt) == (Outcome.COMPLETED, 2)

    @pytest.mark.parametrize("start_pool", ["ray"], indirect=True)
    def test_a_worker_that_gets_sigterm_hands_over(self, start_pool, user_trainer, make_spec, tmp_path):
        pool = start_pool(user_trainer)
        pool.submit(assignment_of(make_spec("goes"), tmp_path))
        pid = tmp_path / "goes" / "pid"
        events = until(pool, lambda: pid.exists() and pid.read_text() != "")
        os.kill(int(pid.read_text()), signal.SIGTERM)
        (end,) = ends(events + until_ended(pool, "goes"))
        assert (end.outcome, end.cause) == (Outcome.PAUSED, Cause.PREEMPTED)
        first = pid.read_text()
        events = until(pool, lambda: pool.has_room(Resources()))
        pool.submit(assignment_of(make_spec("goes"), tmp_path, attempt=2))
        assert ends(events + until_ended(pool, "goes"))[-1].outcome is Outcome.COMPLETED
        assert pid.read_text() != first

    @pytest.mark.parametrize("start_pool", ["ray"], indirect=True)
    def test_a_killed_worker_is_one_outcome(self, start_pool, user_trainer, make_spec, tmp_path):
        pool = start_pool(user_trainer)
        pool.submit(assignment_of(make_spec("hangs"), tmp_path))
        pid = tmp_path / "hangs" / "pid"
        events = until(pool, lambda: pid.exists() and pid.read_text() != "")
        os.kill(int(pid.read_text()), signal.SIGKILL)
        events += until_ended(pool, "hangs")
        (end,) = ends(events)
        assert (end.outcome, end.cause, end.attempt) == (Outcome.FAILED, Cause.WORKER_LOST, 1)
        for number in range(2):
            assert pool.has_room(Resources())
            pool.submit(assignment_of(make_spec("hangs" if number else "other"), tmp_path, attempt=2))
        later = until_ended(pool, "hangs", "other")
        assert {end.outcome for end in ends(later)} == {Outcome.COMPLETED}
        assert not ends(pool.wait(0.5))
