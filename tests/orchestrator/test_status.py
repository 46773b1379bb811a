"""Where a sweep stands, from hand-written histories."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import tiny

from orchestrator.goal import Goal
from orchestrator.ledger import Closed, Ended, Event, History, Opened, Proposed, Settled, Started
from orchestrator.status import SweepStatus, as_json, measured_rates, sweep_status
from orchestrator.steering import Steering
from orchestrator.trial import Reason, TrialState
from search_spaces.space import HyperParameters
from trainers.api import Cause, TrialResult

PLAN = tiny.sweep().plan()


def opened(time: float, slots: int = 2) -> Opened:
    return Opened(time=time, sweep="tiny", sweep_id="id", plan="p", trainer_version="v", software="0", slots=slots)


def proposed(key: str, search: int = 0, reason: Reason = Reason.MODEL, rate: float = 0.1) -> Proposed:
    cell = PLAN.searches[search].cell
    settings = HyperParameters(learning_rate=rate, batch_size=4, beta2=0.98)
    return Proposed(
        time=0.0,
        key=key,
        number=int(key, 36),
        scale=cell.scale.name,
        tokens=cell.tokens,
        settings=settings,
        seed=0,
        reason=reason,
    )


def completed(time: float, key: str, loss: float, attempt: int = 1, seconds: float = 10.0) -> Ended:
    result = TrialResult(final_loss=loss, diverged=False, tokens=1, seconds=seconds, repeated_tokens=7)
    return Ended(time=time, key=key, attempt=attempt, state=TrialState.COMPLETED, result=result)


def status(*events: Event, now: float = 1000.0, goal: Goal | None = None) -> SweepStatus:
    history = History()
    for event in events:
        history.apply(event)
    return sweep_status(PLAN, history, now=now, steering=Steering(plan=PLAN, goal=goal or Goal()))


def two_slots() -> Sequence[Event]:
    """Slot one is busy from 0 to 10 and from 10 to 20, slot two from 0 to 5 and from 7 to 30."""
    return (
        opened(0.0),
        *(proposed(key) for key in "abcd"),
        Started(time=0.0, key="a", attempt=1),
        Started(time=0.0, key="b", attempt=1),
        completed(5.0, "b", 4.0),
        Started(time=7.0, key="c", attempt=1),
        completed(10.0, "a", 3.0),
        Started(time=10.0, key="d", attempt=1),
        completed(20.0, "d", 3.5),
        completed(30.0, "c", 3.6),
    )


def test_nothing_has_happened_yet() -> None:
    shown = status()
    assert (shown.state, shown.ended, shown.planned) == ("open", 0, PLAN.trials)
    assert shown.seconds_left is None
    assert shown.occupancy.busy_fraction is None
    assert [search.name for search in shown.searches] == [search.name for search in PLAN.searches]


def test_trials_are_counted_by_search_and_state() -> None:
    shown = status(*two_slots(), proposed("e", search=1), Started(time=31.0, key="e", attempt=1))
    assert shown.counts == {TrialState.COMPLETED: 4, TrialState.RUNNING: 1}
    assert shown.searches[0].count(TrialState.COMPLETED) == 4
    assert shown.searches[1].count(TrialState.RUNNING) == 1
    assert [trial.key for trial in shown.running] == ["e"]
    assert shown.ended == 4
    assert shown.repeated_tokens == 28
    assert shown.flops_done == 4 * PLAN.searches[0].cell.flops()


def test_slots_are_busy_from_the_first_start_to_the_last() -> None:
    """The queue is empty at 10: a has been on for 10, b for 5, c for 3 of the 2 * 10 slot seconds."""
    shown = status(*two_slots()).occupancy
    assert (shown.slots, shown.window_s, shown.drain_s) == (2, 10.0, 20.0)
    assert shown.busy_fraction == pytest.approx(18 / 20)


def test_only_the_last_drivers_life_counts() -> None:
    lost = Ended(time=500.0, key="a", attempt=1, state=TrialState.WAITING, cause=Cause.NODE_LOST)
    before = (opened(0.0), proposed("a"), proposed("b"), Started(time=0.0, key="a", attempt=1), lost)
    later = (
        opened(600.0, slots=1),
        Started(time=600.0, key="a", attempt=2),
        completed(610.0, "a", 3.0, attempt=2),
        Started(time=610.0, key="b", attempt=1),
    )
    shown = status(*before, *later).occupancy
    assert (shown.slots, shown.window_s, shown.busy_fraction, shown.drain_s) == (1, 10.0, 1.0, 0.0)


def test_the_best_is_of_the_search_not_of_its_replicates() -> None:
    lucky = (proposed("z", reason=Reason.REPLICATE), Started(time=40.0, key="z", attempt=1), completed(41.0, "z", 1.0))
    best = status(*two_slots(), *lucky).searches[0].best
    assert best is not None
    assert (best.key, best.loss) == ("a", 3.0)


def test_a_best_on_an_edge_is_said() -> None:
    shown = status(opened(0.0), proposed("a", rate=2.0), Started(time=0.0, key="a", attempt=1), completed(1.0, "a", 3))
    assert shown.searches[0].edges == ("learning_rate",)


def test_time_left_is_what_is_left_of_each_scale_at_its_own_speed() -> None:
    seconds = (10.0, 20.0, 40.0, 80.0)
    events: list[Event] = [opened(0.0)]
    for search, taken in enumerate(seconds):
        key = "abcd"[search]
        events += [proposed(key, search), Started(time=0.0, key=key, attempt=1), completed(9.0, key, 3.0, 1, taken)]
    left = sum(taken * (search.planned_trials - 1) for search, taken in zip(PLAN.searches, seconds, strict=True))
    assert status(*events).seconds_left == pytest.approx(left / 2)
    # What runs has a part behind it.
    running = (proposed("e"), Started(time=996.0, key="e", attempt=1))
    assert status(*events, *running).seconds_left == pytest.approx((left - 4) / 2)


HOURS_S = 36_000.0


def paused_overnight(*before: Event) -> Sequence[Event]:
    """A driver measures one trial of each scale, 10 s each, and does `before` from 90 to 100; then ten hours pass."""
    events: list[Event] = [opened(0.0)]
    for search, key in enumerate("abcd"):
        events += [proposed(key, search), Started(time=0.0, key=key, attempt=1), completed(10.0, key, 3.0)]
    return (*events, proposed("e"), Started(time=90.0, key="e", attempt=1), *before, opened(100.0 + HOURS_S))


PAUSED = Ended(time=94.0, key="e", attempt=1, state=TrialState.WAITING)
LOST = Ended(
    time=101.0 + HOURS_S, key="e", attempt=1, state=TrialState.WAITING, cause=Cause.DRIVER_LOST, message="gone"
)
AGAIN = Started(time=102.0 + HOURS_S, key="e", attempt=2)


def test_nothing_is_trained_between_two_drivers() -> None:
    """Trial e has run for 4 s under the first driver and for 3 s under the second."""
    whole = 10.0 * (PLAN.trials - 4)
    shown = status(*paused_overnight(PAUSED), AGAIN, now=105.0 + HOURS_S)
    assert shown.seconds_left == pytest.approx((whole - 4 - 3) / 2)
    waiting = status(*paused_overnight(PAUSED), now=101.0 + HOURS_S)
    assert waiting.seconds_left == pytest.approx((whole - 4) / 2)


def test_a_driver_that_was_killed_trained_until_its_last_event() -> None:
    """That is another trial's start at 96: e has run for 6 s, and f not at all."""
    f = (proposed("f"), Started(time=96.0, key="f", attempt=1))
    whole = 10.0 * (PLAN.trials - 4)
    shown = status(*paused_overnight(*f), now=101.0 + HOURS_S)
    assert shown.seconds_left == pytest.approx((whole - 6) / 2)
    again = status(*paused_overnight(*f), LOST, AGAIN, now=105.0 + HOURS_S)
    assert again.seconds_left == pytest.approx((whole - 6 - 3) / 2)


def test_a_trial_that_takes_longer_than_usual_shortens_no_other() -> None:
    slow = (*paused_overnight(PAUSED), AGAIN)
    assert status(*slow, now=500.0 + HOURS_S).seconds_left == pytest.approx(10.0 * (PLAN.trials - 5) / 2)


def test_the_speed_counts_what_earlier_attempts_trained() -> None:
    """Trial e's last attempt took 3 s and knows of none before, but the first one had run for 4."""
    after = completed(105.0 + HOURS_S, "e", 3.0, attempt=2, seconds=3.0)
    history = History()
    for event in (*paused_overnight(PAUSED), AGAIN, after):
        history.apply(event)
    cell = PLAN.searches[0].cell
    seconds = (10.0 + 7.0) / 2
    rate = measured_rates(PLAN, history)[cell.scale.params]
    assert rate == pytest.approx(cell.tokens * cell.scale.flops_per_token() / seconds)


def test_a_scale_that_was_not_measured_is_taken_to_be_slower_than_a_smaller_one() -> None:
    smallest, *others = PLAN.searches
    left = status(*two_slots()).seconds_left
    at_the_same_speed = sum(
        search.planned_trials * 10.0 * search.cell.tokens / smallest.cell.tokens for search in others
    )
    assert left is not None
    assert left > at_the_same_speed / 2


def test_causes_and_reasons_are_counted() -> None:
    failures = [
        Ended(time=2.0, key="a", attempt=1, state=TrialState.WAITING, cause=Cause.WORKER_LOST),
        Started(time=3.0, key="a", attempt=2),
        Ended(time=4.0, key="a", attempt=2, state=TrialState.FAILED, cause=Cause.WORKER_LOST),
    ]
    shown = status(
        opened(0.0),
        proposed("a", reason=Reason.START_UP),
        proposed("b"),
        Started(time=1.0, key="a", attempt=1),
        *failures,
    )
    assert shown.causes == {"worker lost": 2}
    assert shown.reasons == {"start-up": 1, "model": 1}
    assert shown.counts == {TrialState.FAILED: 1, TrialState.WAITING: 1}


def test_a_closed_sweep_says_how_until_it_is_opened_again() -> None:
    closed = Closed(time=50.0, how="failed", message="ValueError: no")
    shown = status(*two_slots(), closed)
    assert (shown.state, shown.message) == ("failed", "ValueError: no")
    again = status(*two_slots(), closed, opened(60.0))
    assert (again.state, again.message) == ("open", "")
    assert status(*two_slots(), closed, opened(60.0), Closed(time=70.0, how="done")).state == "done"


def test_the_json_has_everything_and_is_json() -> None:
    shown = status(*two_slots(), Closed(time=50.0, how="done"))
    read = json.loads(json.dumps(as_json(shown), allow_nan=False))
    assert (read["state"], read["ended"], read["planned"]) == ("done", 4, PLAN.trials)
    assert read["counts"] == {"completed": 4}
    assert read["searches"][0]["best"]["settings"] == {"learning_rate": 0.1, "batch_size": 4, "beta2": 0.98}


def test_a_settled_search_has_nothing_left_but_its_replicates() -> None:
    first, *others = PLAN.searches
    settled = [
        Settled(time=40.0, scale=search.cell.scale.name, tokens=search.cell.tokens, why="enough is known")
        for search in (first, *others)
    ]
    events = (opened(0.0), proposed("a"), Started(time=0.0, key="a", attempt=1), completed(9.0, "a", 3.0))
    shown = status(*events, *settled[:-1])
    assert shown.searches[0].over == "settled: enough is known"
    assert shown.searches[-1].over == ""
    all_settled = status(*events, *settled).seconds_left
    assert all_settled is not None
    assert shown.seconds_left is not None
    assert all_settled < shown.seconds_left < (status(*events).seconds_left or 0)
    # The first scale's replicate is one more trial of its own speed, the last one's is there in both.
    without_last = status(*events, *settled[:1]).seconds_left
    assert without_last == pytest.approx((status(*events).seconds_left or 0) - (first.trials - 1) * 10 / 2)


def test_a_search_that_has_had_its_trials_is_over() -> None:
    assert status(*two_slots()).searches[0].over == "all of its trials were proposed"


def test_a_budget_bounds_the_time_left() -> None:
    whole = status(*two_slots()).seconds_left or 0
    spent = 4 * PLAN.searches[0].cell.flops()
    to_come = sum(s.cell.flops() * (s.planned_trials - (3 if s is PLAN.searches[0] else 0)) for s in PLAN.searches)
    half = status(*two_slots(), goal=Goal(flops=spent + to_come / 2))
    assert half.seconds_left == pytest.approx(whole / 2, rel=1e-6)
    assert (half.goal.flops, half.goal.most_flops) == (spent, spent + to_come / 2)
    assert status(*two_slots(), goal=Goal(flops=spent / 2)).seconds_left == 0
    hours = status(*two_slots(), goal=Goal(device_hours=41 / 3600))
    assert hours.goal.device_hours == pytest.approx(40 / 3600)
    assert hours.seconds_left == pytest.approx(1 / 2)


def test_a_closed_sweep_has_no_time_left() -> None:
    assert status(*two_slots(), Closed(time=50.0, how="stopped")).seconds_left is None


def test_the_targets_regret_is_looked_at_once_for_the_same_trials() -> None:
    goal = Goal(target=(1e6, 2e7), regret=0.001)
    shown = status(*two_slots(), goal=goal)
    assert (shown.goal.target, shown.goal.wanted_regret, shown.goal.expected_regret) == (goal.target, 0.001, None)
    events = [opened(0.0)]
    for number, (rate, loss) in enumerate(
        [(0.05, 3.2), (0.1, 3.0), (0.2, 3.1), (0.4, 3.4), (0.15, 3.01), (0.08, 3.05)]
    ):
        key = "abcdef"[number]
        events += [proposed(key, rate=rate), Started(time=0.0, key=key, attempt=1), completed(9.0, key, loss)]
    known = status(*events, goal=goal).goal.expected_regret
    assert known is not None
    assert known > 0
