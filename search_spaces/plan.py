"""What a sweep is going to do: cells, searches, evaluation points, FLOPs, and an identity."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from search_spaces.axis import PowersOfTwo
from search_spaces.errors import InputError
from search_spaces.scale import FlopsCount, ModelScale
from search_spaces.space import SearchSpace

# Evaluation points of a trial, log-spaced from this part of the horizon on. At most 20 points of a run
# enter a law (design), so more would only cost time.
FIRST_EVALUATION = 1 / 64
POINTS_PER_DOUBLING = 3
# Part of an axis by which it may be widened at both ends. A guess: a factor of 3 for three decades of rates.
WIDENING = 1 / 6


class Schedule(StrEnum):
    """How the learning rate goes over a run, after warmup."""

    CONSTANT = "constant"
    COSINE = "cosine"
    WSD = "wsd"  # warmup, stable, decay by 1 - sqrt

    @property
    def serves_shorter(self) -> bool:
        """Whether a point inside a run is the end of a shorter run."""
        return self is Schedule.CONSTANT


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One (scale, tokens) pair: the unit for which an optimum is given."""

    scale: ModelScale
    tokens: int

    @property
    def tokens_per_param(self) -> float:
        """D/N by the standard count."""
        return self.tokens / self.scale.params

    @property
    def name(self) -> str:
        """For people; never parsed."""
        return f"{self.scale.name}-{self.tokens_per_param:.3g}tpp"

    def flops(self, convention: FlopsCount | str = FlopsCount.STANDARD) -> int:
        """FLOP of one run to the end of this cell."""
        return self.scale.flops_per_token(convention) * self.tokens


@dataclass(frozen=True, kw_only=True)
class Search:
    """One searched cell. Shorter cells of its scale are read from its curves where `serves` has them.

    `trials` are proposed by the sampler; then the best settings are trained until there are `seeds`
    runs of them. A `held_out` search starts after its prediction was written down, which waits for all trials of
    smaller scales, or, if `early`, for some in each: then no slot idles meanwhile.
    """

    cell: Cell
    serves: tuple[Cell, ...]
    space: SearchSpace
    trials: int
    seeds: int = 1
    held_out: bool = False
    early: bool = False

    @property
    def name(self) -> str:
        """For people; never parsed."""
        return self.cell.name

    @property
    def planned_trials(self) -> int:
        """Proposed ones and replicates."""
        return self.trials + self.seeds - 1

    @property
    def widest(self) -> SearchSpace:
        """How far a sampler may go beyond the space, where the optimum is pressed against its edge.

        Batches only grow smaller: horizons and evaluation points are multiples of the largest.
        """
        wide = self.space.widen(("learning_rate", "batch_size", "beta2"), WIDENING)
        batch = wide.batch_size
        if isinstance(batch, PowersOfTwo):
            batch = replace(batch, high=self.space.batch_size.high)
        return replace(wide, batch_size=batch)

    @property
    def quantum(self) -> int:
        """Tokens of the space's largest batch: every horizon and evaluation point is a multiple."""
        return quantum(self.space, self.cell.scale)

    @property
    def eval_tokens(self) -> tuple[int, ...]:
        """Rising token counts at which every trial is evaluated; the last is the horizon."""
        horizon = self.cell.tokens
        doublings = math.log2(1 / FIRST_EVALUATION)
        count = round(doublings * POINTS_PER_DOUBLING)
        wanted = [horizon * FIRST_EVALUATION ** (1 - k / count) for k in range(count + 1)]
        snapped = {max(1, round(tokens / self.quantum)) * self.quantum for tokens in wanted}
        return tuple(sorted({t for t in snapped if t < horizon} | {c.tokens for c in self.serves} | {horizon}))


def quantum(space: SearchSpace, scale: ModelScale) -> int:
    """Tokens of the largest batch that the space has at this scale."""
    return int(space.batch_size.high) * scale.sequence_length


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """All the searches of a sweep, in the order in which they are started."""

    name: str
    searches: tuple[Search, ...]
    schedule: Schedule
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.searches:
            raise InputError(f"sweep {self.name!r} has no scales; give it a ladder")
        names = [scale.name for scale in self.scales]
        if len(set(names)) < len(names):
            raise InputError(f"sweep {self.name!r} has different scales of one name: {names}; rename one")
        names = [search.name for search in self.searches]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"two searches are named {twice[0]!r}; move their tokens_per_param apart")

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell that gets an optimum, searched or read from a longer run."""
        return tuple(cell for search in self.searches for cell in search.serves)

    @property
    def scales(self) -> tuple[ModelScale, ...]:
        """The ladder, smallest first."""
        scales = dict.fromkeys(search.cell.scale for search in self.searches)
        return tuple(sorted(scales, key=lambda scale: scale.params))

    @property
    def trials(self) -> int:
        """Runs that will be trained, replicates too."""
        return sum(search.planned_trials for search in self.searches)

    @property
    def tokens(self) -> int:
        """Tokens that will be trained on; a run that serves several cells is counted once."""
        return sum(search.planned_trials * search.cell.tokens for search in self.searches)

    def flops(self, convention: FlopsCount | str = FlopsCount.STANDARD) -> int:
        """FLOP of all runs; a run that serves several cells is counted once."""
        return sum(search.planned_trials * search.cell.flops(convention) for search in self.searches)

    def search_of(self, scale: str, tokens: int) -> Search:
        """The search of a scale's name at a horizon. Raises KeyError where there is none."""
        for search in self.searches:
            if search.cell.scale.name == scale and search.cell.tokens == tokens:
                return search
        raise KeyError((scale, tokens))

    def below(self, search: Search) -> Iterator[Search]:
        """The searches of smaller scales, nearest first."""
        smaller = [other for other in self.searches if other.cell.scale.params < search.cell.scale.params]
        yield from sorted(smaller, key=lambda other: (other.cell.scale.params, other.cell.tokens), reverse=True)

    def fingerprint(self) -> str:
        """A hash that is equal for equal plans, on any machine and Python version."""
        text = json.dumps(_plain(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    """What identifies a value, as JSON has it: kinds of axes apart, 8 and 8.0 alike."""
    if dataclasses.is_dataclass(value):
        content = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {type(value).__name__: content}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def plan_searches(
    *,
    scale: ModelScale,
    space: SearchSpace,
    tokens_per_param: tuple[float, ...],
    trials: int,
    schedule: Schedule,
    seeds: int = 1,
    held_out: bool = False,
    early: bool = False,
) -> tuple[Search, ...]:
    """The searches of one scale: one at the longest horizon if shorter ones are points of its runs.

    Raises InputError where there is nothing to search, a batch would be larger than a cell, or two
    horizons fall together.
    """
    _check_design(scale, tokens_per_param=tokens_per_param, trials=trials, seeds=seeds)
    step = quantum(space, scale)
    horizons = [max(1, round(ratio * scale.params / step)) * step for ratio in sorted(tokens_per_param)]
    shortest = min(tokens_per_param) * scale.params
    if step > shortest:
        raise InputError(
            f"scale {scale.name!r}: the largest batch is {step:,} tokens ({int(space.batch_size.high)} sequences "
            f"of {scale.sequence_length}) and the shortest cell {shortest:,.0f}; "
            "lower batch_size.high or raise tokens_per_param"
        )
    if len(set(horizons)) < len(horizons):
        raise InputError(
            f"scale {scale.name!r}: tokens_per_param {list(tokens_per_param)} give equal horizons when rounded "
            f"to the largest batch ({step:,} tokens); move them apart or lower batch_size.high"
        )
    cells = tuple(Cell(scale=scale, tokens=tokens) for tokens in horizons)
    groups = [cells] if schedule.serves_shorter else [(cell,) for cell in cells]
    return tuple(
        Search(cell=group[-1], serves=group, space=space, trials=trials, seeds=seeds, held_out=held_out, early=early)
        for group in groups
    )


def _check_design(scale: ModelScale, *, tokens_per_param: tuple[float, ...], trials: int, seeds: int) -> None:
    if not tokens_per_param:
        raise InputError(f"scale {scale.name!r}: tokens_per_param is empty; give at least one, such as 20")
    for ratio in tokens_per_param:
        if not (ratio > 0 and math.isfinite(ratio)):
            raise InputError(f"scale {scale.name!r}: tokens_per_param has {ratio:g}; each must be above 0")
    for name, count in (("trials", trials), ("seeds", seeds)):
        if count < 1:
            raise InputError(f"scale {scale.name!r}: {name} is {count}; it must be at least 1")
