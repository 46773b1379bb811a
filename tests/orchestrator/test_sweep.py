"""The loop on fakes: in what order, and what becomes of failures."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from fakes import FakePool, FakeProposer, completed, diverged, failed
from rig import Rig, centre, one_search

from orchestrator.curves import read_curve
from orchestrator.forecasts import Forecast
from orchestrator.ledger import Closed, Ended, Started, read
from orchestrator.ports import Assignment, AttemptEnded, Outcome, PointsArrived, PoolEvent, Resources
from orchestrator.status import sweep_status
from orchestrator.steering import Steering
from orchestrator.sweep import Ending, Requests
from orchestrator.tracking.runs import run_tags
from orchestrator.trial import Proposal, Reason, Trial, TrialState, best_trial
from search_spaces.plan import Search
from search_spaces.space import HyperParameters
from trainers.api import Cause, CurvePoint, TrialResult

# The order of things


def test_a_sweep_ends_with_every_trial_completed(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    assert rig.run() is Ending.DONE
    assert len(rig.trials) == rig.plan.trials == 14
    assert all(trial.state is TrialState.COMPLETED and trial.attempt == 1 for trial in rig.trials)
    assert [closed.how for closed in rig.of(Closed)] == ["done"]
    assert rig.tracker.shown == {trial.key: trial for trial in rig.trials}
    assert Counter(trial.key for trial in rig.proposer.told) == Counter(trial.key for trial in rig.trials)
    for trial in rig.trials:
        curve = read_curve(tmp_path, trial.key)
        assert curve[-1].loss == trial.loss
        assert rig.tracker.curves[trial.key] == {point.tokens: point.loss for point in curve}


def test_smallest_scale_first(tmp_path: Path) -> None:
    rig = Rig(tmp_path, pool=FakePool(slots=1))
    rig.run()
    searched = [trial for trial in rig.trials if trial.reason is not Reason.REPLICATE]
    assert [trial.scale for trial in searched] == ["s1"] * 3 + ["s2"] * 3 + ["s3"] * 3 + ["s4"] * 3
    assert [assignment.spec.key for assignment in rig.pool.submitted] == [trial.key for trial in rig.trials]


def test_a_scale_starts_from_its_neighbours_best(tmp_path: Path) -> None:
    rig = Rig(tmp_path, pool=FakePool(slots=1), plan=tiny.sweep(backtest=False, replicates=1).plan())
    rig.run()
    of_scale = {scale: [trial for trial in rig.trials if trial.scale == scale] for scale in ("s1", "s2", "s3")}
    best = {scale: best_trial(trials).settings for scale, trials in of_scale.items()}
    assert rig.proposer.neighbours == [None] * 3 + [best["s1"]] * 3 + [best["s2"]] * 3 + [best["s3"]] * 3


def test_replicates_are_the_best_again_after_their_search(tmp_path: Path) -> None:
    rig = Rig(tmp_path, plan=tiny.sweep(replicates=3).plan())
    rig.run()
    for scale in ("s1", "s4"):
        mine = [trial for trial in rig.trials if trial.scale == scale]
        searched, replicates = mine[:3], mine[3:]
        assert [trial.reason for trial in replicates] == [Reason.REPLICATE] * 2
        assert {trial.settings for trial in replicates} == {best_trial(searched).settings}
        assert len({trial.seed for trial in [best_trial(searched), *replicates]}) == 3
        assert replicates[0].proposed_at >= max(trial.ended_at for trial in searched)
    assert not any(trial.reason is Reason.REPLICATE for trial in rig.trials if trial.scale in {"s2", "s3"})


def test_replicates_fill_the_gap_before_the_held_out_search(tmp_path: Path) -> None:
    """The forecast does not come back before the replicates of the smallest scale are through."""
    came = threading.Event()

    def ending(assignment: Assignment) -> Sequence[PoolEvent]:
        if assignment.spec.seed > 0:
            came.set()
        return completed(assignment)

    def slow(search: Search, trials: tuple[Trial, ...]) -> Forecast:
        assert came.wait(10)
        return centre(search, trials)

    rig = Rig(tmp_path, pool=FakePool(ending=ending), forecast=slow)
    assert rig.run() is Ending.DONE
    order = [(trial.scale, trial.reason) for trial in rig.trials]
    assert order.index(("s1", Reason.REPLICATE)) < order.index(("s4", Reason.PREDICTED))


def test_no_room_is_asked_for_a_search_that_has_nothing_to_start(tmp_path: Path) -> None:
    """A pool keeps room free for what it had to refuse: asking early would starve the small trials."""
    sizes = {"s1": 1.0, "s2": 2.0, "s3": 3.0, "s4": 4.0}
    pool = FakePool()

    def forecast(search: Search, trials: tuple[Trial, ...]) -> Forecast:
        assert 4.0 not in {wanted.cpus for wanted in pool.asked_for}
        return centre(search, trials)

    rig = Rig(tmp_path, pool=pool, forecast=forecast, resources=lambda scale: Resources(cpus=sizes[scale]))
    assert rig.run() is Ending.DONE
    assert 4.0 in {wanted.cpus for wanted in pool.asked_for}


# Identity


def test_an_equal_key_is_never_proposed_twice(tmp_path: Path) -> None:
    class Stubborn(FakeProposer):
        def ask(self, search: Search, number: int, neighbour_best: HyperParameters | None) -> Proposal:
            return Proposal(settings=search.space.centre, reason=Reason.SAMPLER)

    rig = one_search(tmp_path, trials=4, replicates=3, proposer=Stubborn())
    assert rig.run() is Ending.DONE
    assert len({trial.settings for trial in rig.trials}) == 1
    assert [trial.seed for trial in rig.trials] == [0, 1, 2, 3, 4, 5]
    assert len({assignment.spec.key for assignment in rig.pool.submitted}) == 6


# Failures


class Faults:
    """Ends the first attempts of each trial as told, and completes the next."""

    def __init__(self, *ends: Callable[[Assignment], Sequence[PoolEvent]]) -> None:
        self._ends = ends

    def __call__(self, assignment: Assignment) -> Sequence[PoolEvent]:
        number = assignment.attempt - 1
        return (self._ends[number] if number < len(self._ends) else completed)(assignment)


def test_a_lost_attempt_is_started_again_with_a_higher_number(tmp_path: Path) -> None:
    preempted = failed(Cause.PREEMPTED)
    rig = one_search(tmp_path, pool=FakePool(ending=Faults(preempted, preempted, preempted)))
    assert rig.run() is Ending.DONE
    for trial in rig.trials:
        assert (trial.state, trial.attempt, trial.cause) == (TrialState.COMPLETED, 4, None)
        assert trial.failures == {Cause.PREEMPTED: 3}
        assert [a.attempt for a in rig.pool.submitted if a.spec.key == trial.key] == [1, 2, 3, 4]
    assert [event.attempt for event in rig.of(Started) if event.key == rig.trials[0].key] == [1, 2, 3, 4]


def test_a_storage_that_does_not_answer_ends_attempts_and_no_trial(tmp_path: Path) -> None:
    away = failed(Cause.STORAGE_UNREACHABLE, "storage s3://bucket/mine does not answer")
    pool = FakePool(slots=1, ending=away)
    all_ended = Requests(pause=lambda: len(pool.submitted) == 3 and not pool.running)
    rig = one_search(tmp_path, pool=pool, requests=all_ended)
    assert rig.run() is Ending.PAUSED
    assert {(trial.state, trial.cause) for trial in rig.trials} == {(TrialState.WAITING, Cause.STORAGE_UNREACHABLE)}
    assert {run_tags(trial, rig.plan.searches[0])["cause"] for trial in rig.tracker.shown.values()} == {
        "storage unreachable"
    }
    status = sweep_status(rig.plan, read(tmp_path), now=0.0, steering=Steering(plan=rig.plan, goal=rig.goal))
    assert status.causes == {"storage unreachable": 3}
    rig = one_search(tmp_path)
    assert rig.run() is Ending.DONE
    assert {(t.state, t.attempt, t.cause) for t in rig.trials} == {(TrialState.COMPLETED, 2, None)}
    assert all(trial.failures == {Cause.STORAGE_UNREACHABLE: 1} for trial in rig.trials)


def test_a_trial_that_fails_too_often_is_given_up_and_the_sweep_goes_on(tmp_path: Path) -> None:
    slow = failed(Cause.TIMED_OUT, "too slow")

    def ending(assignment: Assignment) -> Sequence[PoolEvent]:
        return slow(assignment) if assignment.spec.key == first_key(rig) else completed(assignment)

    rig = one_search(tmp_path, pool=FakePool(ending=ending))
    assert rig.run() is Ending.DONE
    first, *others = rig.trials
    assert (first.state, first.attempt, first.cause) == (TrialState.FAILED, 2, Cause.TIMED_OUT)
    assert first.message == "too slow"
    assert {trial.state for trial in others} == {TrialState.COMPLETED}
    assert first.key in {trial.key for trial in rig.proposer.told}


def first_key(rig: Rig) -> str:
    return rig.pool.submitted[0].spec.key


def test_a_retry_waits_for_its_delay_while_others_run(tmp_path: Path) -> None:
    rig = one_search(tmp_path, pool=FakePool(slots=1, ending=Faults(failed(Cause.WORKER_LOST))))
    assert rig.run() is Ending.DONE
    starts = [(event.key, event.attempt) for event in rig.of(Started)]
    assert [attempt for _, attempt in starts] == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("cause", [Cause.USER_ERROR, Cause.BUG])
def test_the_same_error_twice_ends_the_sweep_with_what_it_said(tmp_path: Path, cause: Cause) -> None:
    message = 'Traceback (most recent call last):\n  File "train.py", line 3\nValueError: no such optimizer'
    rig = one_search(tmp_path, trials=8, pool=FakePool(ending=failed(cause, message)))
    assert rig.run() is Ending.FAILED
    (closed,) = rig.of(Closed)
    assert (closed.how, closed.message) == ("failed", message)
    assert len(rig.pool.submitted) <= 3
    assert not rig.pool.running


def test_errors_that_differ_do_not_end_the_sweep(tmp_path: Path) -> None:
    def ending(assignment: Assignment) -> Sequence[PoolEvent]:
        say = f"ValueError: trial {assignment.spec.key} attempt {assignment.attempt}"
        return failed(Cause.USER_ERROR, say)(assignment)

    rig = one_search(tmp_path, pool=FakePool(ending=ending))
    assert rig.run() is Ending.DONE
    assert all((trial.state, trial.attempt) == (TrialState.FAILED, 2) for trial in rig.trials)


def test_a_failed_sweep_goes_on_once_the_cause_is_gone(tmp_path: Path) -> None:
    rig = one_search(tmp_path, pool=FakePool(ending=failed(Cause.USER_ERROR, "disk quota")))
    assert rig.run() is Ending.FAILED
    rig.pool = FakePool()
    assert rig.run() is Ending.DONE
    assert [closed.how for closed in rig.of(Closed)] == ["failed", "done"]
    assert all(trial.state.ended for trial in rig.trials)
    assert sum(trial.state is TrialState.COMPLETED for trial in rig.trials) >= 2


def test_diverged_trials_are_results(tmp_path: Path) -> None:
    def ending(assignment: Assignment) -> Sequence[PoolEvent]:
        return (diverged if assignment.spec.settings.learning_rate > 0.3 else completed)(assignment)

    rig = one_search(tmp_path, trials=12, replicates=2, pool=FakePool(ending=ending))
    assert rig.run() is Ending.DONE
    states = Counter(trial.state for trial in rig.trials)
    assert states[TrialState.DIVERGED] > 0
    assert states[TrialState.DIVERGED] + states[TrialState.COMPLETED] == 13
    assert all(trial.attempt == 1 and not trial.failures for trial in rig.trials)
    assert {trial.key for trial in rig.proposer.told} == {trial.key for trial in rig.trials}
    assert best_trial(rig.trials).settings.learning_rate <= 0.3


def test_a_search_where_everything_diverged_ends_without_replicates(tmp_path: Path) -> None:
    rig = one_search(tmp_path, replicates=3, pool=FakePool(ending=diverged))
    assert rig.run() is Ending.DONE
    assert [trial.state for trial in rig.trials] == [TrialState.DIVERGED] * 3


# Fencing


class Haunted(FakePool):
    """Its first worker is given up and comes back: it says things while the second attempt runs."""

    def wait(self, timeout_s: float) -> Sequence[PoolEvent]:
        events = list(super().wait(timeout_s))
        ended = next((event for event in events if isinstance(event, AttemptEnded)), None)
        if ended is None or ended.attempt == 1:
            return events
        lie = TrialResult(final_loss=0.0, diverged=False, tokens=256, seconds=1.0)
        ghost = [
            PointsArrived(key=ended.key, attempt=1, points=(CurvePoint(tokens=256, loss=0.0, time=1.0),)),
            AttemptEnded(key=ended.key, attempt=1, outcome=Outcome.COMPLETED, result=lie),
        ]
        twice = replace(ended, result=lie)
        return [*ghost, *events, *ghost, twice]


def test_what_an_older_attempt_says_is_not_heard(tmp_path: Path) -> None:
    rig = one_search(tmp_path, pool=Haunted(ending=Faults(failed(Cause.NODE_LOST))))
    rig.plan = tiny.sweep(scales=1, trials=1, replicates=1).plan()
    assert rig.run() is Ending.DONE
    (trial,) = rig.trials
    assert (trial.state, trial.attempt) == (TrialState.COMPLETED, 2)
    curve = read_curve(tmp_path, trial.key)
    assert trial.loss == curve[-1].loss > 1.0
    assert all(point.loss > 1.0 for point in curve)
    assert [event.attempt for event in rig.of(Ended)] == [1, 2]


# Leaving


def after(rig: Rig, count: int) -> Callable[[], bool]:
    return lambda: len(rig.pool.submitted) >= count


def test_a_paused_sweep_leaves_and_goes_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.requests = Requests(pause=after(rig, 5))
    assert rig.run() is Ending.PAUSED
    assert not rig.pool.running
    assert not rig.of(Closed)
    left = [trial for trial in rig.trials if trial.state is TrialState.WAITING]
    assert left
    assert all(len(read_curve(tmp_path, trial.key)) > 0 and not trial.failures for trial in left)
    again = Rig(tmp_path)
    assert again.run() is Ending.DONE
    assert {trial.key for trial in again.proposer.restored} >= {trial.key for trial in left}
    assert all(trial.state is TrialState.COMPLETED for trial in again.trials)
    assert {trial.key: trial.attempt for trial in again.trials if trial.key in {t.key for t in left}} == {
        trial.key: 2 for trial in left
    }


def test_a_stopped_sweep_is_closed(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.requests = Requests(stop=after(rig, 3))
    assert rig.run() is Ending.STOPPED
    assert [closed.how for closed in rig.of(Closed)] == ["stopped"]
    assert not rig.pool.running
    assert len(rig.trials) < rig.plan.trials
