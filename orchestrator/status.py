"""Where a sweep stands, computed from its plan and ledger alone."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.facts import closed, searched, why_over
from orchestrator.ledger import Ended, History, Opened, Started
from orchestrator.steering import SECONDS_PER_HOUR, Steering
from orchestrator.trial import Trial, TrialState, best_trial
from search_spaces.plan import Search, SweepPlan

# Seconds per token rise by this power of the params where nothing is known of a scale: between a step
# whose cost is all overhead (0) and one whose cost is all arithmetic (1). A guess.
_COST_EXPONENT = 0.6


@dataclass(frozen=True, kw_only=True)
class SearchStatus:
    """One search: how many of its planned trials are where, and the best so far."""

    name: str
    planned: int
    counts: Mapping[TrialState, int]
    best: Trial | None
    edges: tuple[str, ...]  # settings of the best trial that lie on an edge of the space
    over: str  # why it gets no further proposals; empty while it does

    def count(self, state: TrialState) -> int:
        """Trials in a state."""
        return self.counts.get(state, 0)


@dataclass(frozen=True, kw_only=True)
class Occupancy:
    """How full the slots were, from the first start until the queue was empty (the last start)."""

    slots: int
    window_s: float
    busy_fraction: float | None  # None before two starts
    drain_s: float  # from the last start to the last end: nothing was left to start


@dataclass(frozen=True, kw_only=True)
class GoalStatus:
    """How far the sweep is from what it is for. None where that was not said, or is not known yet.

    `target` is (params, tokens); regrets are relative, `device_hours` hours of workers.
    """

    target: tuple[float, float] | None
    expected_regret: float | None
    wanted_regret: float | None
    flops: float
    most_flops: float | None
    device_hours: float
    most_device_hours: float | None


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """The whole sweep. `seconds_left` comes from the measured FLOP rate; None before there is one, and at the end.

    Where searches may be settled early, or a budget may end them, it is an upper bound.
    """

    sweep: str
    state: str  # open (it runs, or `run` goes on with it), done, stopped or failed
    searches: tuple[SearchStatus, ...]
    planned: int
    counts: Mapping[TrialState, int]
    causes: Mapping[str, int]  # attempts that failed, by cause
    reasons: Mapping[str, int]  # trials by reason of their proposal
    running: tuple[Trial, ...]
    occupancy: Occupancy
    repeated_tokens: int
    flops_done: float
    flops_planned: float
    seconds_left: float | None
    goal: GoalStatus
    message: str = ""  # why it ended, where that was not the plan's end

    @property
    def ended(self) -> int:
        """Trials to which nothing more will happen."""
        return sum(count for state, count in self.counts.items() if state.ended)


def sweep_status(plan: SweepPlan, history: History, *, now: float, steering: Steering) -> SweepStatus:
    """Where the sweep stands at a time (seconds since 1970).

    Costs a fit (0.2 s) where the sweep has a target and `steering` has not seen these measured trials yet.
    """
    trials = list(history.trials.values())
    end = closed(history)
    occupancy = _occupancy(history, now)
    goal = _goal_status(steering, trials)
    done = sum(_flops(plan, trial) for trial in trials if trial.state.ended)
    planned = float(plan.flops())
    return SweepStatus(
        sweep=plan.name,
        state=end.how if end else "open",
        searches=tuple(_search_status(search, history) for search in plan.searches),
        planned=plan.trials,
        counts=dict(Counter(trial.state for trial in trials)),
        causes=dict(Counter(event.cause.value for event in history.of(Ended) if event.cause)),
        reasons=dict(Counter(trial.reason.value for trial in trials)),
        running=tuple(trial for trial in trials if trial.state is TrialState.RUNNING),
        occupancy=occupancy,
        repeated_tokens=sum(trial.result.repeated_tokens for trial in trials if trial.result),
        flops_done=done,
        flops_planned=planned,
        seconds_left=None if end else _seconds_left(plan, history, goal, slots=occupancy.slots, now=now),
        goal=goal,
        message=end.message if end else "",
    )


def as_json(status: SweepStatus) -> dict[str, Any]:
    """Plain numbers and strings, for `status --json`."""
    plain = dataclasses.asdict(status)
    plain["ended"] = status.ended
    return plain


def _search_status(search: Search, history: History) -> SearchStatus:
    trials = [trial for trial in history.trials.values() if trial.of(search)]
    best = best_trial(searched(search, history))
    return SearchStatus(
        name=search.name,
        planned=search.planned_trials,
        counts=dict(Counter(trial.state for trial in trials)),
        best=best,
        edges=search.space.edges(best.settings) if best else (),
        over=why_over(search, history),
    )


def _goal_status(steering: Steering, trials: Sequence[Trial]) -> GoalStatus:
    goal, spent, known = steering.goal, steering.spent(trials), steering.known(trials)
    return GoalStatus(
        target=goal.target,
        expected_regret=known.expected_regret if known else None,
        wanted_regret=goal.regret,
        flops=spent["flops"],
        most_flops=goal.flops,
        device_hours=spent["device_hours"],
        most_device_hours=goal.device_hours,
    )


def _flops(plan: SweepPlan, trial: Trial) -> float:
    return float(plan.search_of(trial.scale, trial.tokens).cell.flops())


def _seconds_left(plan: SweepPlan, history: History, goal: GoalStatus, *, slots: int, now: float) -> float | None:
    """Work left at the speed measured so far, scale by scale, and no more than the budget has."""
    trained = _trained_s(history, now)
    measured = _seconds_per_token(plan, history, trained)
    if not measured or not slots:
        return None
    begun = [trial for trial in history.trials.values() if not trial.state.ended]
    unfinished = to_come = flops = 0.0
    for search in plan.searches:
        count = _to_come(search, history)
        seconds = search.cell.tokens * _at(measured, search.cell.scale.params)
        unfinished += sum(max(0.0, seconds - trained.get(trial.key, 0.0)) for trial in begun if trial.of(search))
        to_come += count * seconds
        flops += count * search.cell.flops()
    return (unfinished + _paid(goal, to_come, flops)) / slots


def _trained_s(history: History, now: float) -> Mapping[str, float]:
    """Seconds that the attempts of each trial have run so far, by its key.

    Attempts of a driver that ended without a word ran until its last event: nobody trains between two drivers.
    """
    trained: dict[str, float] = {}
    since: dict[str, float] = {}
    last = 0.0
    for event in history.events:
        match event:
            case Opened():
                _end(since, trained, list(since), last)
            case Started():
                since[event.key] = event.time
            case Ended():
                _end(since, trained, [event.key], event.time)
            case _:
                pass
        last = event.time
    _end(since, trained, list(since), now)
    return trained


def _end(since: dict[str, float], trained: dict[str, float], keys: Sequence[str], time: float) -> None:
    """Add what the attempts ran that have not ended before."""
    for key in keys:
        began = since.pop(key, time)
        trained[key] = trained.get(key, 0.0) + max(0.0, time - began)


def _to_come(search: Search, history: History) -> int:
    """Trials of a search that were not proposed yet: of one that is over, its replicates alone."""
    trials = [trial for trial in history.trials.values() if trial.of(search)]
    if not why_over(search, history):
        return max(0, search.planned_trials - len(trials))
    return max(0, search.seeds - 1 - (len(trials) - len(searched(search, history))))


def _paid(goal: GoalStatus, seconds: float, flops: float) -> float:
    """The seconds of trials to come, of so many FLOP, that the budget pays for."""
    if goal.most_flops is not None and flops > 0:
        seconds *= min(1.0, max(0.0, goal.most_flops - goal.flops) / flops)
    if goal.most_device_hours is not None:
        seconds = min(seconds, max(0.0, goal.most_device_hours - goal.device_hours) * SECONDS_PER_HOUR)
    return seconds


def _seconds_per_token(plan: SweepPlan, history: History, trained: Mapping[str, float]) -> dict[int, float]:
    """Seconds of one slot for a token, by params of the scale."""
    spent: dict[int, list[float]] = {}
    for trial in history.trials.values():
        if trial.state is TrialState.COMPLETED and trial.result and trial.result.seconds > 0:
            seconds = trial.result.seconds
            if trial.attempt > 1:  # it does not know what earlier attempts trained after their last points
                seconds = max(seconds, trained[trial.key])
            params = plan.search_of(trial.scale, trial.tokens).cell.scale.params
            spent.setdefault(params, []).append(seconds / trial.tokens)
    return {params: sum(seconds) / len(seconds) for params, seconds in spent.items()}


def measured_rates(plan: SweepPlan, history: History) -> dict[int, float]:
    """FLOP per second of one slot, by params of the scale, from completed trials."""
    flops = {scale.params: scale.flops_per_token() for scale in plan.scales}
    measured = _seconds_per_token(plan, history, _trained_s(history, now=0.0))  # what runs now is not completed
    return {params: flops[params] / seconds for params, seconds in measured.items()}


def _at(measured: Mapping[int, float], params: int) -> float:
    """The measured speed of a scale, or that of the nearest one, slower by the usual power of the size."""
    nearest = min(measured, key=lambda known: abs(math.log(known / params)))
    return float(measured[nearest] * (params / nearest) ** _COST_EXPONENT)


@dataclass
class _Busy:
    seconds: float = 0.0
    since: dict[str, float] = field(default_factory=dict)


def _occupancy(history: History, now: float) -> Occupancy:
    """Of the last driver's life only: between two drivers nobody holds the slots."""
    events = history.events
    opened = [index for index, event in enumerate(events) if isinstance(event, Opened)]
    last = events[opened[-1] :] if opened else []
    slots = last[0].slots if last and isinstance(last[0], Opened) else 0
    starts = [event.time for event in last if isinstance(event, Started)]
    ends = [event.time for event in last if isinstance(event, Ended)]
    if len(starts) < 2 or not slots:
        return Occupancy(slots=slots, window_s=0.0, busy_fraction=None, drain_s=0.0)
    busy = _Busy()
    for event in last:
        if isinstance(event, Started):
            busy.since[event.key] = event.time
        elif isinstance(event, Ended) and event.key in busy.since:
            busy.seconds += max(0.0, min(event.time, starts[-1]) - busy.since.pop(event.key))
    busy.seconds += sum(max(0.0, starts[-1] - since) for since in busy.since.values())
    window = starts[-1] - starts[0]
    return Occupancy(
        slots=slots,
        window_s=window,
        busy_fraction=busy.seconds / (window * slots) if window else None,
        drain_s=max(0.0, (max(ends) if ends else now) - starts[-1]),
    )
