"""One attempt from the worker's side: points, divergence, fencing, causes."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainers.api import Cause, CurvePoint, Session, TrialDiverged, TrialFailed, TrialPaused, TrialSpec
from trainers.checked_lines import decode
from trainers.session import TrialSession, run_trial
from trainers.spool import POINTS_FILE


class Programmed:
    """A trainer that does what the test says."""

    version = "1"

    def __init__(self, act: Callable[[Session], None]) -> None:
        self._act = act
        self.starts = 0

    def train(self, spec: TrialSpec, session: Session) -> None:
        self.starts += 1
        self._act(session)


@pytest.fixture
def spec(make_spec):
    return make_spec()


@pytest.fixture
def delivered() -> list[CurvePoint]:
    return []


@pytest.fixture
def open_session(spec, tmp_path, delivered):
    sessions = []

    def start(attempt: int = 1, *, stop: Callable[[], bool] = lambda: False) -> TrialSession:
        session = TrialSession(spec=spec, attempt=attempt, workspace=tmp_path, deliver=delivered.extend, stop=stop)
        sessions.append(session)
        return session

    yield start
    for session in sessions:
        session.__exit__(None, None, None)


def point(tokens: int, loss: float, at: float = 1.0) -> CurvePoint:
    return CurvePoint(tokens=tokens, loss=loss, time=at)


def emit_all(spec: TrialSpec, loss: float = 3.0) -> Callable[[Session], None]:
    def act(session: Session) -> None:
        for tokens in spec.eval_tokens:
            session.emit(point(tokens, loss))

    return act


def spooled(folder: Path) -> list[dict]:
    return [decode(line) for line in (folder / POINTS_FILE).read_bytes().splitlines()]


def test_points_are_on_disk_before_they_are_delivered(spec, open_session, tmp_path, delivered):
    session = open_session()
    session.emit(point(10, 3.0))
    assert spooled(tmp_path)[-1] == {"attempt": 1, "point": spooled(tmp_path)[-1]["point"]}
    assert spooled(tmp_path)[-1]["point"]["loss"] == 3.0
    assert delivered == [point(10, 3.0)]


def test_points_of_earlier_attempts_are_delivered_again(open_session, delivered):
    open_session(1).emit(point(10, 3.0))
    open_session(1).emit(point(20, 2.5))
    delivered.clear()
    session = open_session(2)
    assert delivered == [point(10, 3.0), point(20, 2.5)] == list(session.curve)


def test_a_point_emitted_again_alike_keeps_its_time(open_session, delivered, tmp_path):
    open_session(1).emit(point(10, 3.0, at=1.0))
    session = open_session(2)
    delivered.clear()
    session.emit(point(10, 3.0, at=99.0))
    assert delivered == []
    assert session.curve[0].time == 1.0


def test_of_equal_tokens_the_highest_attempt_counts(open_session, delivered):
    open_session(1).emit(point(10, 3.0))
    open_session(2).emit(point(10, 2.9))
    assert open_session(3).curve == (point(10, 2.9),)
    assert delivered[-1] == point(10, 2.9)


def test_a_torn_last_line_is_dropped(open_session, tmp_path):
    open_session(1).emit(point(10, 3.0))
    with (tmp_path / POINTS_FILE).open("a") as file:
        file.write('{"attempt": 1, "point": {"tok')
    session = open_session(2)
    session.emit(point(20, 2.0))
    assert [p.tokens for p in open_session(3).curve] == [10, 20]


def test_a_damaged_line_is_named(open_session, tmp_path):
    (tmp_path / POINTS_FILE).write_text("what is this\n")
    with pytest.raises(TrialFailed, match="is damaged"):
        open_session(1)


def test_an_older_attempt_that_comes_back_is_fenced_off(open_session, delivered):
    old = open_session(1)
    new = open_session(2)
    with pytest.raises(TrialFailed, match="attempt 2 has taken over") as failure:
        old.emit(point(10, 3.0))
    assert failure.value.cause is Cause.WORKER_LOST
    new.emit(point(10, 3.0))
    assert delivered == [point(10, 3.0)]
    with pytest.raises(TrialFailed, match="taken over"):
        open_session(1)


def test_repeated_tokens_are_counted_over_all_restarts(spec, open_session):
    open_session(1).emit(point(100, 3.0))
    second = open_session(2)
    second.resumed_at(60)
    second.emit(point(120, 2.9))
    third = open_session(3)
    third.resumed_at(100)
    assert third.result().repeated_tokens == 40 + 20
    fourth = open_session(4)
    fourth.resumed_at(120)
    assert fourth.result().repeated_tokens == 60


def test_what_the_collector_had_and_the_folder_lost_is_trained_again(spec, tmp_path, delivered):
    with TrialSession(
        spec=spec, attempt=2, workspace=tmp_path, deliver=delivered.extend, stop=lambda: False, reached=100
    ) as session:
        session.resumed_at(60)
        assert session.result().repeated_tokens == 40


@pytest.mark.parametrize("loss", [math.nan, math.inf, 5.5])
def test_divergence_is_a_result_with_the_last_finite_loss(spec, open_session, loss, delivered):
    def act(session: Session) -> None:
        session.emit(point(10, 3.0))
        session.emit(point(20, loss))
        pytest.fail("training went on")

    result = run_trial(Programmed(act), spec, open_session())
    assert result.diverged
    assert result.final_loss == (loss if math.isfinite(loss) else 3.0)
    assert result.tokens == 20
    assert "at 20 tokens" in result.message
    assert all(math.isfinite(p.loss) for p in delivered)


def test_a_diverged_trial_is_not_trained_again(spec, open_session):
    first = Programmed(lambda session: session.emit(point(10, math.nan)))
    assert run_trial(first, spec, open_session(1)).final_loss is None
    second = Programmed(emit_all(spec))
    assert run_trial(second, spec, open_session(2)).diverged
    assert second.starts == 0


def test_a_trainer_may_see_divergence_itself(spec, open_session):
    def act(session: Session) -> None:
        session.emit(point(10, 3.0))
        raise TrialDiverged("gradient is nan at step 7")

    result = run_trial(Programmed(act), spec, open_session())
    assert (result.diverged, result.final_loss, result.message) == (True, 3.0, "gradient is nan at step 7")


def test_a_loss_that_rises_a_little_is_no_divergence(spec, open_session):
    def act(session: Session) -> None:
        for tokens, loss in zip(spec.eval_tokens, (3.0, 4.5, 2.0), strict=True):
            session.emit(point(tokens, loss))

    result = run_trial(Programmed(act), spec, open_session())
    assert not result.diverged
    assert result.final_loss == 2.0


def test_a_complete_curve_is_not_trained_again(spec, open_session):
    trainer = Programmed(emit_all(spec))
    first = run_trial(trainer, spec, open_session(1))
    second = run_trial(trainer, spec, open_session(2))
    assert trainer.starts == 1
    assert second.final_loss == first.final_loss == 3.0


def test_seconds_add_up_over_attempts(spec, open_session):
    def act(session: Session) -> None:
        time.sleep(0.05)
        tokens = spec.eval_tokens[session.attempt - 1]
        session.emit(point(tokens, 3.0, at=time.time()))

    for attempt in (1, 2):
        with pytest.raises(TrialFailed, match="the trainer returned with its curve at"):
            run_trial(Programmed(act), spec, open_session(attempt))
    result = run_trial(Programmed(act), spec, open_session(3))
    assert 0.15 <= result.seconds < 1.0


def test_the_rate_leaves_out_what_the_points_leave_out(spec, open_session):
    def act(session: Session) -> None:
        for tokens, rate in zip(spec.eval_tokens, (100.0, 200.0, 400.0), strict=True):
            session.emit(CurvePoint(tokens=tokens, loss=3.0, time=1.0, tokens_per_second=rate))

    first, second, third = spec.eval_tokens
    seconds = first / 100 + (second - first) / 200 + (third - second) / 400
    assert run_trial(Programmed(act), spec, open_session()).tokens_per_second == pytest.approx(third / seconds)


def test_points_past_the_horizon_are_refused(spec, open_session):
    with pytest.raises(TrialFailed, match="horizon"):
        open_session().emit(point(spec.tokens + 1, 3.0))


def test_returning_early_when_asked_to_leave_is_a_pause(spec, open_session):
    session = open_session(stop=lambda: True)
    with pytest.raises(TrialPaused, match="left at 10 of"):
        run_trial(Programmed(lambda s: s.emit(point(10, 3.0))), spec, session)


class OutOfMemoryError(RuntimeError):
    """What torch's is called."""


def fails(error: BaseException) -> Callable[[Session], None]:
    def act(session: Session) -> None:
        raise error

    return act


def wrapped() -> RuntimeError:
    error = RuntimeError("could not write the checkpoint")
    error.__cause__ = OSError(28, os.strerror(28))
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (TrialFailed(Cause.TIMED_OUT, "too slow"), Cause.TIMED_OUT),
        (MemoryError(), Cause.OUT_OF_HOST_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: ..."), Cause.OUT_OF_HOST_MEMORY),
        (OSError(12, os.strerror(12)), Cause.OUT_OF_HOST_MEMORY),
        (OutOfMemoryError("GPU"), Cause.OUT_OF_DEVICE_MEMORY),
        (RuntimeError("CUDA error: out of memory"), Cause.OUT_OF_DEVICE_MEMORY),
        (OSError(28, os.strerror(28)), Cause.DISK_FULL),
        (wrapped(), Cause.DISK_FULL),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), Cause.WORKER_LOST),
        (RuntimeError("CUDA error: device-side assert triggered"), Cause.BUG),
        (KeyError("oops"), Cause.BUG),
        (SystemExit(2), Cause.BUG),
    ],
)
def test_whatever_a_trainer_raises_gets_a_cause(spec, open_session, error, cause):
    with pytest.raises(TrialFailed) as failure:
        run_trial(Programmed(fails(error)), spec, open_session())
    assert failure.value.cause is cause


def test_a_bug_comes_with_its_traceback(spec, open_session):
    with pytest.raises(TrialFailed, match=r"(?s)Traceback.*KeyError: 'oops'"):
        run_trial(Programmed(fails(KeyError("oops"))), spec, open_session())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named_and_what_was_measured_stays(open_session, tmp_path):
    open_session(1).emit(point(10, 3.0))
    (tmp_path / "attempt.2").symlink_to("/dev/full")
    with pytest.raises(TrialFailed, match="No space left") as failure:
        open_session(2)
    assert failure.value.cause is Cause.DISK_FULL
    assert str(tmp_path) in failure.value.message
    assert open_session(3).curve == (point(10, 3.0),)
