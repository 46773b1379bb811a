"""The three outside systems, as the sweep sees them: a proposer, a pool of workers, a tracker.

One contract test class for each (tests/contracts) runs on the fake and on the real adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from orchestrator.trial import Proposal, Trial
from search_spaces.errors import ScalesweepError
from search_spaces.plan import Search
from search_spaces.space import HyperParameters
from trainers.api import Cause, CurvePoint, TrialResult, TrialSpec


class Proposer(Protocol):
    """Proposes settings. Called from one thread.

    It keeps nothing that outlives the process: at a restart `restore` is called for every trial of the
    ledger, in the order of proposal, and asking goes on as if nothing had happened. What `ask` returns
    for a given number depends on the sweep's seed, the search, that number and what was told, never on how often
    the process was restarted.
    """

    def ask(self, search: Search, number: int, neighbour_best: HyperParameters | None) -> Proposal:
        """Settings for the search's next trial, inside its space.

        `number` is how many of the search's trials were proposed before; `neighbour_best` the best
        settings of the next smaller scale, tried first if there is one.
        """

    def proposed(self, trial: Trial, search: Search) -> None:
        """The trial was recorded: count it as pending until it is told."""

    def tell(self, trial: Trial, search: Search) -> None:
        """The trial ended. A diverged one counts as a finite loss above the worst; a failed one not at all."""

    def restore(self, trial: Trial, search: Search) -> None:
        """A trial of an earlier process, in whatever state it was left."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one trial occupies, where, and for how long at most.

    `gpus` may be a fraction: several trials then share one. Only nodes that carry all `labels` take the trial.
    `timeout_s` bounds one attempt, in seconds; trials that differ in nothing else share workers.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gib: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    timeout_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class TrainerRef:
    """How a worker builds its trainer: a name of trainers.registry (or module:attribute) and its options.

    Where `version` is given, a worker whose trainer has another one (another corpus, other sources on
    its node) refuses to train.
    """

    name: str
    options: Mapping[str, object] = field(default_factory=dict)
    version: str | None = None


@dataclass(frozen=True, kw_only=True)
class StorageRef:
    """What all nodes share, and which start of a driver this is: a worker's writes are fenced by it.

    `url` is a path or a URL of orchestrator.storage.address.
    """

    url: str
    sweep_id: str
    generation: int


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One attempt of one trial, for a worker. With `storage` it trains on its own disk, and pushes snapshots."""

    spec: TrialSpec
    attempt: int
    resources: Resources
    workspace: Path  # the trial's own folder, where there is no storage
    storage: StorageRef | None = None
    reached: int = 0  # tokens to which the driver has the trial's curve: what is trained below is trained again


class Outcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    PAUSED = "paused"  # left on request, checkpoint written
    FAILED = "failed"  # see the cause


@dataclass(frozen=True, kw_only=True)
class PointsArrived:
    """Curve points of a running attempt, in the order of their tokens."""

    key: str
    attempt: int
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True, kw_only=True)
class AttemptEnded:
    """The last event of an attempt; all its points have arrived before."""

    key: str
    attempt: int
    outcome: Outcome
    result: TrialResult | None = None  # of a completed or diverged one
    cause: Cause | None = None  # of a failed one; PREEMPTED of one that paused because its worker goes away
    message: str = ""


PoolEvent = PointsArrived | AttemptEnded


class PoolLostError(ScalesweepError):
    """No worker can be reached any more, and this process may be ended within seconds; what was recorded is kept."""


class WorkerPool(Protocol):
    """Runs attempts on long-lived warm workers. Called from one thread.

    Every submitted attempt ends with exactly one AttemptEnded, whatever becomes of its worker: a lost
    worker is an outcome, not an exception. An attempt of a trial is never started while an older one of
    the same trial may still write (or it is fenced off by its higher number). Any method but `close` raises
    PoolLostError when all workers are lost for good.
    """

    def start(self) -> None:
        """Bring the pool up: after this, `submit` costs milliseconds."""

    def check(self, resources: Mapping[str, Resources]) -> None:
        """Raises InputError naming the scale whose resources no node can ever give."""

    @property
    def slots(self) -> int:
        """How many trials of the smallest resources run at once."""

    @property
    def busy(self) -> int:
        """How many attempts are running."""

    def has_room(self, resources: Resources) -> bool:
        """Whether an attempt with these resources would start at once.

        A no holds room for it for some seconds: ask only for a trial that there is.
        """

    def submit(self, assignment: Assignment) -> str:
        """Start an attempt; returns a name for its worker. Only after `has_room` said so."""

    def wait(self, timeout_s: float) -> Sequence[PoolEvent]:
        """What happened, at once if something has; empty after the time-out."""

    def ask_to_leave(self, key: str) -> None:
        """Let the trial's attempt write a checkpoint and end as paused. No error if it has ended."""

    def close(self) -> None:
        """End all workers. Running attempts get no event any more."""


class Mirror(Protocol):
    """Copies ended trials to where people look at them. Same contract as a Tracker's."""

    @property
    def url(self) -> str:
        """Where to look."""

    def trial_changed(self, trial: Trial, search: Search) -> None:
        """Copy the trial, once it has ended. The same trial twice is stored once."""

    @property
    def pending(self) -> int:
        """Ended trials not delivered yet."""

    def close(self, timeout_s: float) -> bool:
        """Deliver what is left, for so long at most; whether all was delivered."""


class Tracker(Protocol):
    """Shows the sweep to people: a projection of the ledger and the curves.

    Calls return at once and never raise because of the tracking server: what could not be delivered is
    kept, tried again, and reported by `pending`. Called from one thread.
    """

    @property
    def url(self) -> str:
        """Where to look."""

    def trial_changed(self, trial: Trial, search: Search) -> None:
        """Create or update the trial's run: name, params, tags, state, summary metrics."""

    def points(self, key: str, points: Sequence[CurvePoint]) -> None:
        """Add points to the trial's run. The same point twice is stored once."""

    def regrets(self, regrets: Mapping[str, float]) -> None:
        """Relative loss above the cell's fitted best, by trial key, once the laws are fitted."""

    def facts(self, tags: Mapping[str, str]) -> None:
        """Tags of the sweep's own run, as they become known; later values replace earlier ones."""

    def summarise(self, note: str, metrics: Mapping[str, float], artifacts: Sequence[Path]) -> None:
        """The sweep's own run: a note in Markdown, numbers, and files to keep."""

    @property
    def pending(self) -> int:
        """Calls not delivered yet."""

    def close(self, timeout_s: float) -> bool:
        """Deliver what is left, for so long at most; whether all was delivered."""
