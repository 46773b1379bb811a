"""Which search a free slot is given to, which searches are settled, and when a sweep has told enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.goal import Goal
from orchestrator.laws.coordinates import half_life_steps
from orchestrator.laws.result import Floats
from orchestrator.search_records import LEAST_BETA2, search_record
from orchestrator.trial import Trial, TrialState
from search_spaces.axis import Fixed
from search_spaces.plan import Search, SweepPlan
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from orchestrator.laws.outlook import Outlook, Worth

SECONDS_PER_HOUR = 3600.0


class Steering:
    """Decides by what is known of the target. Without one, searches are taken in the plan's order.

    All answers follow from the trials alone, so that a restarted driver decides the same.
    """

    def __init__(self, *, plan: SweepPlan, goal: Goal) -> None:
        self._plan, self.goal = plan, goal
        self._seen: tuple[str, ...] = ()
        self._outlook: Outlook | None = None

    def order(self, searches: Sequence[Search], trials: Sequence[Trial]) -> list[Search]:
        """The searches, the one first whose next trial is worth most per FLOP.

        Without a target the smallest scale first, and of a scale the longest trials, which would end last.
        """
        known = self.known(trials)
        if known is None:
            return sorted(searches, key=lambda search: (search.cell.scale.params, -search.cell.tokens))
        running = [trial for trial in trials if not trial.state.ended]

        def worth(search: Search) -> float:
            waiting = 1 + sum(trial.of(search) for trial in running)
            return self._worth(known, search).total / search.cell.flops() / waiting

        return sorted(searches, key=worth, reverse=True)

    def settled(self, search: Search, trials: Sequence[Trial]) -> str:
        """Why the search needs no further trial; empty while it does."""
        known = self.known(trials)
        if known is None or not self._worth(known, search).settled:
            return ""
        return "another trial would tell next to nothing of its optimum beside what the laws say"

    def repeats(self, search: Search, trials: Sequence[Trial]) -> bool:
        """Whether the search's best settings again tell more of the target than another point does."""
        known = self.known(trials)
        if known is None:
            return False
        worth = self._worth(known, search)
        return worth.settled and worth.loss > worth.regret

    def enough(self, trials: Sequence[Trial]) -> str:
        """Why the sweep has told enough, or may cost no more; empty while it goes on."""
        spent = self.spent(trials)
        for what, limit in (("flops", self.goal.flops), ("device_hours", self.goal.device_hours)):
            if limit is not None and spent[what] >= limit:
                return f"the budget is spent: {spent[what]:.3g} of {limit:.3g} {what}"
        known = self.known(trials) if self.goal.regret is not None else None
        if known is not None and self.goal.regret is not None and known.expected_regret < self.goal.regret:
            return f"the target's expected regret is {known.expected_regret:.3%}, below {self.goal.regret:.3%}"
        return ""

    def spent(self, trials: Sequence[Trial]) -> Mapping[str, float]:
        """FLOP of all trials that were proposed, and hours of workers for those that ended."""
        flops = sum(self._plan.search_of(trial.scale, trial.tokens).cell.flops() for trial in trials)
        seconds = sum(trial.result.seconds for trial in trials if trial.result is not None)
        return {"flops": float(flops), "device_hours": seconds / SECONDS_PER_HOUR}

    def known(self, trials: Sequence[Trial]) -> Outlook | None:
        """The outlook on the target; None without one, or before the first cell is known."""
        if self.goal.target is None:
            return None
        measured = tuple(trial.key for trial in trials if trial.loss is not None)
        if measured != self._seen:
            self._seen, self._outlook = measured, self._look(trials, self.goal.target)
        return self._outlook

    def _look(self, trials: Sequence[Trial], target: tuple[float, float]) -> Outlook | None:
        from orchestrator.laws.outlook import outlook  # scipy takes long to import, and most commands need none of it

        space = self._plan.searches[0].space
        return outlook(
            [
                search_record(t, self._plan.search_of(t.scale, t.tokens))
                for t in trials
                if t.state is TrialState.COMPLETED
            ],
            _settings(space),
            planned=[_sizes(search) for search in self._plan.searches],
            bounds=_bounds(self._plan.searches[0]),
            target=target,
        )

    def _worth(self, known: Outlook, search: Search) -> Worth:
        return known.worth[self._plan.searches.index(search)]


def _sizes(search: Search) -> list[tuple[float, float]]:
    """Of the cells that the search's runs serve; the searched one is the longest, and the last."""
    return [(float(cell.scale.params), float(cell.tokens)) for cell in search.serves]


def _settings(space: SearchSpace) -> tuple[str, ...]:
    names = {"learning_rate": "learning_rate", "batch_size": "batch_tokens", "beta2": "beta2"}
    return tuple(names[name] for name, axis in space.axes().items() if not isinstance(axis, Fixed))


def _bounds(search: Search) -> tuple[Floats, Floats]:
    """The ends of the searched axes in the laws' coordinates."""
    length = search.cell.scale.sequence_length
    places: Mapping[str, Callable[[float], float]] = {
        "learning_rate": math.log,
        "batch_size": lambda batch: math.log(batch * length),
        "beta2": lambda beta2: math.log(half_life_steps(max(beta2, LEAST_BETA2))),
    }
    axes = {name: axis for name, axis in search.space.axes().items() if not isinstance(axis, Fixed)}
    low, high = ([places[name](getattr(axis, end)) for name, axis in axes.items()] for end in ("low", "high"))
    return np.array(low), np.array(high)
