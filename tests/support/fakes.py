"""The three outside systems of a sweep, written by hand: a proposer, a pool and a tracker."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.ports import Assignment, AttemptEnded, Outcome, PointsArrived, PoolEvent, Resources
from orchestrator.trial import Proposal, Reason, Trial
from search_spaces.plan import Search
from search_spaces.space import HyperParameters
from trainers.api import Cause, CurvePoint, TrialResult
from trainers.synthetic import SyntheticLaw

LAW = SyntheticLaw()


@dataclass
class FakeProposer:
    """Settings that depend on the search and the number alone; remembers what it was told."""

    told: list[Trial] = field(default_factory=list)
    restored: list[Trial] = field(default_factory=list)
    neighbours: list[HyperParameters | None] = field(default_factory=list)

    def ask(self, search: Search, number: int, neighbour_best: HyperParameters | None) -> Proposal:
        self.neighbours.append(neighbour_best)
        chance = random.Random(f"{search.name}/{number}")
        axes = search.space.axes().items()
        values = {name: axis.value(axis.coordinate(axis.low) + chance.random() * axis.span) for name, axis in axes}
        return Proposal(settings=search.space.at(values), reason=Reason.SAMPLER)

    def proposed(self, trial: Trial, search: Search) -> None:
        assert trial.of(search)

    def tell(self, trial: Trial, search: Search) -> None:
        assert trial.of(search)
        self.told.append(trial)

    def restore(self, trial: Trial, search: Search) -> None:
        assert trial.of(search)
        self.restored.append(trial)


def points_of(assignment: Assignment) -> tuple[CurvePoint, ...]:
    """The curve of the planted law, with a little that depends on the seed."""
    spec = assignment.spec
    noise = random.Random(f"{spec.key}").gauss(0, 0.002)
    return tuple(
        CurvePoint(
            tokens=tokens,
            loss=LAW.loss(spec.scale.params, tokens, spec.settings, spec.scale.sequence_length) + noise,
            time=1e9 + tokens,
        )
        for tokens in spec.eval_tokens
    )


def completed(assignment: Assignment) -> Sequence[PoolEvent]:
    """All of the curve, and its end."""
    points = points_of(assignment)
    result = TrialResult(final_loss=points[-1].loss, diverged=False, tokens=points[-1].tokens, seconds=2.0)
    key, attempt = assignment.spec.key, assignment.attempt
    return (
        PointsArrived(key=key, attempt=attempt, points=points),
        AttemptEnded(key=key, attempt=attempt, outcome=Outcome.COMPLETED, result=result),
    )


def diverged(assignment: Assignment) -> Sequence[PoolEvent]:
    """The first third of the curve, and then no finite loss any more."""
    points = points_of(assignment)
    kept = points[: len(points) // 3]
    result = TrialResult(final_loss=kept[-1].loss, diverged=True, tokens=kept[-1].tokens, seconds=1.0)
    key, attempt = assignment.spec.key, assignment.attempt
    return (
        PointsArrived(key=key, attempt=attempt, points=kept),
        AttemptEnded(key=key, attempt=attempt, outcome=Outcome.DIVERGED, result=result, message="loss is nan"),
    )


def failed(cause: Cause, message: str = "it failed") -> Callable[[Assignment], Sequence[PoolEvent]]:
    """An end without a measurement."""

    def end(assignment: Assignment) -> Sequence[PoolEvent]:
        key, attempt = assignment.spec.key, assignment.attempt
        return (AttemptEnded(key=key, attempt=attempt, outcome=Outcome.FAILED, cause=cause, message=message),)

    return end


@dataclass
class FakePool:
    """Runs attempts in the order of their start; each `wait` ends the oldest, as `ending` says."""

    slots: int = 2
    ending: Callable[[Assignment], Sequence[PoolEvent]] = completed
    submitted: list[Assignment] = field(default_factory=list)
    asked_for: list[Resources] = field(default_factory=list)
    running: dict[str, Assignment] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)

    def start(self) -> None: ...

    def check(self, resources: Mapping[str, Resources]) -> None: ...

    @property
    def busy(self) -> int:
        return len(self.running)

    def has_room(self, resources: Resources) -> bool:
        self.asked_for.append(resources)
        return self.busy < self.slots

    def submit(self, assignment: Assignment) -> str:
        assert self.busy < self.slots
        assert assignment.spec.key not in self.running
        self.submitted.append(assignment)
        self.running[assignment.spec.key] = assignment
        return "slot"

    def wait(self, timeout_s: float) -> Sequence[PoolEvent]:
        if not self.running:
            time.sleep(0.001)
            return ()
        key = next(iter(self.running))
        assignment = self.running.pop(key)
        if key not in self.leaving:
            return self.ending(assignment)
        self.leaving.discard(key)
        half = points_of(assignment)[: len(assignment.spec.eval_tokens) // 2]
        return (
            PointsArrived(key=key, attempt=assignment.attempt, points=half),
            AttemptEnded(key=key, attempt=assignment.attempt, outcome=Outcome.PAUSED),
        )

    def ask_to_leave(self, key: str) -> None:
        self.leaving.add(key)

    def close(self) -> None: ...


@dataclass
class FakeTracker:
    """Keeps what it was last shown of each trial."""

    url: str = "memory:"
    shown: dict[str, Trial] = field(default_factory=dict)
    curves: dict[str, dict[int, float]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def trial_changed(self, trial: Trial, search: Search) -> None:
        self.shown[trial.key] = trial

    def points(self, key: str, points: Sequence[CurvePoint]) -> None:
        self.curves.setdefault(key, {}).update({point.tokens: point.loss for point in points})

    def regrets(self, regrets: Mapping[str, float]) -> None: ...

    def facts(self, tags: Mapping[str, str]) -> None:
        self.tags.update(tags)

    def summarise(self, note: str, metrics: Mapping[str, float], artifacts: Sequence[Path]) -> None: ...

    @property
    def pending(self) -> int:
        return 0

    def close(self, timeout_s: float) -> bool:
        return True
