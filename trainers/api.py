"""What a trainer is given, what it gives back, and how a trial can end.

A trainer is anything with a `version` and a `train(spec, session)`. It reports by `session.emit`; the
curve it emitted is the one result that counts: a trial is complete when its curve reaches
`spec.tokens`. How a trial ends otherwise is said by the exceptions below.

TrialError (search_spaces.errors)
├── TrialFailed        no measurement; carries a Cause
├── TrialDiverged      a result: the loss became non-finite or rose far above its start
└── TrialPaused        asked to leave; its checkpoint is written
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from search_spaces.errors import TrialError
from search_spaces.scale import ModelScale
from search_spaces.space import HyperParameters

# Version of this protocol. It is raised when a trainer written for the old one would misbehave.
PROTOCOL_VERSION = 1


class Cause(StrEnum):
    """Why an attempt ended without a measurement."""

    PREEMPTED = "preempted"  # the node or the process was taken away, and said so
    NODE_LOST = "node lost"  # the machine went without a word, or nobody reaches it
    WORKER_LOST = "worker lost"  # the process died, its machine did not (the kernel's out-of-memory killer, too)
    DRIVER_LOST = "driver lost"  # the driver ended without a word, and its attempts with it
    OUT_OF_HOST_MEMORY = "out of host memory"
    OUT_OF_DEVICE_MEMORY = "out of device memory"
    DISK_FULL = "disk full"
    STORAGE_UNREACHABLE = "storage unreachable"  # what all nodes share does not answer, or is not mounted
    TIMED_OUT = "timed out"
    USER_ERROR = "user error"  # the user's own code or command failed
    BUG = "bug"  # ours

    @classmethod
    def _missing_(cls, value: object) -> Cause | None:
        """Ledgers of the first version did not tell which memory was out."""
        return cls.OUT_OF_DEVICE_MEMORY if value == "out of memory" else None


class TrialFailed(TrialError):
    """The attempt gives no measurement, and says why."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(f"{cause.value}: {message}")
        self.cause = cause
        self.message = message


class TrialDiverged(TrialError):
    """The loss became non-finite or rose far above its start."""


class TrialPaused(TrialError):
    """The trainer was asked to leave and has written its checkpoint."""


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """Everything that decides a trial's result, and nothing else.

    `eval_tokens` are the rising token counts at which validation loss is wanted; the last one is
    `tokens`, the horizon. Each is a multiple of every batch of the scale's space. Those of the shorter
    cells that this trial serves are in `served_tokens` (empty where it serves the horizon alone): they
    are measurements. The others only draw the curve, and a trainer may skip them where they cost too much.
    """

    key: str  # trial_key: names the trial everywhere
    scale: ModelScale
    tokens: int
    eval_tokens: tuple[int, ...]
    settings: HyperParameters
    seed: int
    served_tokens: tuple[int, ...] = ()

    @property
    def shortest_tokens(self) -> int:
        """Tokens of the shortest cell that this trial serves."""
        return min(self.served_tokens, default=self.tokens)

    @property
    def batch_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.settings.batch_size * self.scale.sequence_length

    @property
    def steps(self) -> int:
        """Optimizer steps to the horizon."""
        return -(-self.tokens // self.batch_tokens)

    def as_json(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and mappings: what a command trainer reads."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One evaluation. Losses are nats per token; `time` is seconds since 1970.

    `train_loss` is the mean over the interval since the last point, `tokens_per_second` the training
    rate over it (evaluation left out), `epoch` how often the corpus has been read so far, `loss_stderr`
    the standard error of `loss` over the held-out sequences: the noise of that set, common to all trials.
    """

    tokens: int
    loss: float
    time: float
    train_loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens_per_second: float | None = None
    flops: float | None = None
    epoch: float | None = None
    loss_stderr: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What a finished trial measured, read from its curve.

    `repeated_tokens` were trained again after a restart: lost work. `diverged` trials carry the last
    finite loss, if there was one.
    """

    final_loss: float | None
    diverged: bool
    tokens: int
    seconds: float
    tokens_per_second: float | None = None
    repeated_tokens: int = 0
    message: str = ""
    facts: Mapping[str, float | int | str] = field(default_factory=dict)


class Session(Protocol):
    """A trainer's one line to the world outside."""

    @property
    def attempt(self) -> int:
        """Number of this start of the trial; a restart has a higher one."""

    @property
    def workspace(self) -> Path:
        """The trial's own folder for checkpoints. What an earlier attempt wrote is still there."""

    def emit(self, point: CurvePoint) -> None:
        """Record a point. Points that an earlier attempt emitted may be emitted again, alike.

        Raises TrialDiverged where the loss says so, TrialFailed when the disk is full.
        """

    def should_stop(self) -> bool:
        """Whether to write a checkpoint now and raise TrialPaused."""

    def resumed_at(self, tokens: int) -> None:
        """Say from which token count this attempt goes on, so that repeated work is counted."""


@runtime_checkable
class Trainer(Protocol):
    """Trains one trial at a time, in the process and thread that it was built in."""

    @property
    def version(self) -> str:
        """Part of every trial's key: changes whenever equal specs would give other curves.

        For the built-in trainers it covers their options and the hash of the corpus.
        """

    def train(self, spec: TrialSpec, session: Session) -> None:
        """Train to `spec.tokens`, emitting a point at each of `spec.eval_tokens`.

        Goes on from the checkpoint in `session.workspace` if there is one.
        """


@runtime_checkable
class Prepares(Protocol):
    """A trainer that has something to do once, before the first trial: tokenising a corpus."""

    def prepare(self, scales: Sequence[ModelScale], tokens: int, say: Callable[[str], None]) -> None:
        """Make ready for trials of these scales of up to so many tokens; needs no accelerator.

        Costs nothing the second time. Raises InputError where the corpus cannot serve them.
        """
