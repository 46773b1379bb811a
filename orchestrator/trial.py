"""A trial, the states it may go through, and its identity."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from search_spaces.errors import ScalesweepError
from search_spaces.plan import Search
from search_spaces.space import HyperParameters
from trainers.api import Cause, TrialResult, TrialSpec


class TrialState(StrEnum):
    """Where a trial stands. Values are what the ledger, MLflow tags and `status` show."""

    WAITING = "waiting"  # proposed, or to be started again
    RUNNING = "running"
    COMPLETED = "completed"
    DIVERGED = "diverged"  # a result: the loss became non-finite or rose far above its start
    FAILED = "failed"  # will not be tried again

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the trial."""
        return self in {TrialState.COMPLETED, TrialState.DIVERGED, TrialState.FAILED}

    @property
    def measured(self) -> bool:
        """Whether the sampler and the laws learn from it."""
        return self in {TrialState.COMPLETED, TrialState.DIVERGED}


_LEGAL = {
    TrialState.WAITING: {TrialState.RUNNING, TrialState.FAILED},
    TrialState.RUNNING: {TrialState.WAITING, TrialState.COMPLETED, TrialState.DIVERGED, TrialState.FAILED},
}


class Reason(StrEnum):
    """Why a point was proposed. Every trial carries one, as a ledger field and an MLflow tag."""

    START_UP = "start-up"  # before the sampler has a model: the space's centre, or a random point
    NEIGHBOUR = "neighbour's best"  # the best settings of the next smaller scale
    MODEL = "model"  # the sampler's model of the losses measured so far
    SAMPLER = "sampler"  # a sampler that learns nothing (random, grid)
    PREDICTED = "law optimum"  # what the laws of the smaller scales predict
    REFINE = "refine"  # the optimum by laws and the cell's own runs, or what tells most about it
    EDGE = "probe edge"  # the same, where the optimum seems to lie beyond what may be tried
    FALLBACK = "fallback"  # a search without the laws, which the cell contradicts
    REPLICATE = "replicate"  # the best settings again with another seed


class IllegalTransitionError(ScalesweepError):
    """A bug of ours: a trial was moved to a state that it cannot reach from its own."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Settings to try, and why."""

    settings: HyperParameters
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training run: its identity, its state and what it measured. Times are seconds since 1970."""

    key: str
    number: int  # rises through the whole sweep, in the order of proposal
    scale: str
    tokens: int
    settings: HyperParameters
    seed: int
    reason: Reason
    proposed_at: float
    state: TrialState = TrialState.WAITING
    attempt: int = 0  # starts so far
    failures: Mapping[Cause, int] = field(default_factory=dict)
    cause: Cause | None = None  # of the last attempt that failed
    message: str = ""
    worker: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    result: TrialResult | None = None

    def of(self, search: Search) -> bool:
        """Whether the trial belongs to this search."""
        return self.scale == search.cell.scale.name and self.tokens == search.cell.tokens

    @property
    def loss(self) -> float | None:
        """Final loss of a completed trial, nats per token."""
        completed = self.state is TrialState.COMPLETED and self.result is not None
        return self.result.final_loss if completed and self.result else None

    def moved(self, state: TrialState, **changes: object) -> Trial:
        """The trial in another state. Raises IllegalTransitionError where that cannot be."""
        if state not in _LEGAL.get(self.state, set()):
            raise IllegalTransitionError(f"trial {self.key} cannot go from {self.state} to {state}")
        return replace(self, state=state, **changes)  # type: ignore[arg-type]


def trial_key(*, search: Search, settings: HyperParameters, seed: int, trainer_version: str) -> str:
    """The identity of a trial: a hash of everything that decides its result.

    `trainer_version` covers the trainer's options (schedule, warmup, ...), corpus and tokenizer. The
    shortest cell is in it, since warmup follows it by default. The scale's name, the device, the
    micro-batch and the number of ranks are not.
    """
    shape = {key: value for key, value in dataclasses.asdict(search.cell.scale).items() if key != "name"}
    identity = {
        "scale": shape,
        "tokens": search.cell.tokens,
        "shortest_tokens": min(cell.tokens for cell in search.serves),
        "settings": dataclasses.asdict(settings),
        "seed": seed,
        "trainer": trainer_version,
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def spec_of(trial: Trial, search: Search) -> TrialSpec:
    """What a worker needs to train the trial."""
    return TrialSpec(
        key=trial.key,
        scale=search.cell.scale,
        tokens=search.cell.tokens,
        eval_tokens=search.eval_tokens,
        settings=trial.settings,
        seed=trial.seed,
        served_tokens=tuple(cell.tokens for cell in search.serves),
    )


def best_trial(trials: Iterable[Trial]) -> Trial | None:
    """The completed trial of lowest final loss; the earlier one of two equals."""
    measured = [trial for trial in trials if trial.loss is not None]
    return min(measured, key=lambda trial: (trial.loss, trial.number), default=None)
