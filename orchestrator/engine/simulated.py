"""The worker pool's contract on a clock of its own: a planted law instead of training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.ports import Assignment, AttemptEnded, Outcome, PointsArrived, PoolEvent, Resources
from trainers.api import CurvePoint, TrialDiverged, TrialResult, TrialSpec
from trainers.session import DIVERGED_RISE
from trainers.synthetic import SyntheticTrainer

_NAP_S = 0.001  # what a wait takes while nothing runs: somebody else is computing


class SimulatedPool:
    """Trials take `seconds` on a clock that jumps from one end to the next; losses are the trainer's.

    `slots` count trials that occupy `smallest`; larger ones occupy several.
    """

    def __init__(
        self, *, trainer: SyntheticTrainer, slots: int, smallest: Resources, seconds: Callable[[TrialSpec], float]
    ) -> None:
        self._trainer, self._slots, self._smallest, self._seconds = trainer, slots, smallest, seconds
        self._running: dict[str, tuple[float, Assignment]] = {}  # by trial_key: when it ends
        self._leaving: set[str] = set()
        self.clock_s = 0.0

    def start(self) -> None:
        """Nothing to bring up."""

    def check(self, resources: Mapping[str, Resources]) -> None:
        """Whatever the scales need is there."""

    @property
    def slots(self) -> int:
        """How many trials of the smallest resources run at once."""
        return self._slots

    @property
    def busy(self) -> int:
        """How many attempts are running."""
        return len(self._running)

    def has_room(self, resources: Resources) -> bool:
        """Whether enough slots are free; a trial larger than the whole pool gets all of it."""
        occupied = sum(self._size(assignment.resources) for _, assignment in self._running.values())
        return not self._running or occupied + self._size(resources) <= self._slots

    def submit(self, assignment: Assignment) -> str:
        """Begin an attempt now, by the pool's clock."""
        spec = assignment.spec
        self._running[spec.key] = self.clock_s + self._seconds(spec), assignment
        return "simulated"

    def wait(self, timeout_s: float) -> Sequence[PoolEvent]:
        """The next attempt's end, with its points."""
        if not self._running:
            time.sleep(min(timeout_s, _NAP_S))
            return ()
        key = min(self._running, key=lambda running: self._running[running][0])
        self.clock_s, assignment = self._running.pop(key)
        if key in self._leaving:
            self._leaving.discard(key)
            return (AttemptEnded(key=key, attempt=assignment.attempt, outcome=Outcome.PAUSED),)
        return self._trained(assignment)

    def ask_to_leave(self, key: str) -> None:
        """Let the trial's attempt end as paused."""
        if key in self._running:
            self._leaving.add(key)

    def close(self) -> None:
        """Forget what runs."""
        self._running.clear()

    def _size(self, resources: Resources) -> float:
        """How many of the smallest trials this one stands for."""
        pairs = ((resources.cpus, self._smallest.cpus), (resources.gpus, self._smallest.gpus))
        return max([1.0, *(wanted / least for wanted, least in pairs if least)])

    def _trained(self, assignment: Assignment) -> Sequence[PoolEvent]:
        spec, key, attempt = assignment.spec, assignment.spec.key, assignment.attempt
        session = _Session(workspace=assignment.workspace)
        message = ""
        try:
            self._trainer.train(spec, session)
        except TrialDiverged as diverged:
            message = str(diverged)
        points = tuple(session.points)
        result = TrialResult(
            final_loss=points[-1].loss if points else None,
            diverged=bool(message),
            tokens=points[-1].tokens if points else 0,
            seconds=self._seconds(spec),
            message=message,
        )
        outcome = Outcome.DIVERGED if message else Outcome.COMPLETED
        return (
            PointsArrived(key=key, attempt=attempt, points=points),
            AttemptEnded(key=key, attempt=attempt, outcome=outcome, result=result, message=message),
        )


@dataclass
class _Session:
    """A trainer's line to nobody: the points are kept here."""

    workspace: Path
    attempt: int = 1
    points: list[CurvePoint] = field(default_factory=list)

    def emit(self, point: CurvePoint) -> None:
        """Keep a point. Raises TrialDiverged as a worker's session does."""
        if not math.isfinite(point.loss):
            raise TrialDiverged(f"loss is {point.loss} at {point.tokens:,} tokens")
        self.points.append(point)
        if point.loss > self.points[0].loss + DIVERGED_RISE:
            raise TrialDiverged(f"loss is {point.loss:.4g} at {point.tokens:,} tokens")

    def should_stop(self) -> bool:
        """A simulated trial goes on to its end."""
        return False

    def resumed_at(self, tokens: int) -> None:
        """Every trial begins at its beginning."""
