"""What every loss law starts from: arrays of points, their exchangeable units, and how intervals are made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from orchestrator.laws.records import RunRecord
from orchestrator.laws.resample import bootstrap_weights, interval, unit_indices
from orchestrator.laws.result import Estimate, Exclusion, Floats
from orchestrator.laws.selection import select
from search_spaces.errors import FitError

# A law's parameters by name: numbers, or arrays of draws that broadcast against the quantities.
Parameters = Mapping[str, npt.ArrayLike]

# FLOP per parameter and token where a table has no flops (Kaplan et al. 2020, section 2.1).
FLOPS_PER_PARAM_TOKEN = 6.0
# Schedules whose losses inside a run say nothing about a shorter run.
DECAYING = ("cosine", "wsd")
# An interval whose ends differ by more than this factor makes a law weak (issue of the law library).
WIDEST_FACTOR = 10.0
# More replicates than this part on a bound make a parameter unidentified. A guess: the tail of a 95 % interval.
MOST_AT_BOUND = 0.05
# Fewer scales than this make a law weak: a curve through four has next to nothing left to judge it by. A guess.
FEWEST_SCALES = 5
# From so many units on, replicates count them as often as they are drawn. A guess, see replicate_weights.
MANY_UNITS = 200
# Points beyond these cost time and tell no more: they are of the same runs, and share their noise. A guess.
MOST_POINTS = 8000
SMALLEST = 1e-300  # stands for zero in logarithms


@dataclass(frozen=True, kw_only=True)
class LossPoints:
    """Points of a loss law, each array (points,). `units` names the run of each: one exchangeable unit."""

    params: Floats
    tokens: Floats
    flops: Floats
    loss: Floats
    units: tuple[str, ...]
    excluded: tuple[Exclusion, ...] = ()

    @property
    def runs(self) -> int:
        """Number of exchangeable units."""
        return len(set(self.units))

    @property
    def scales(self) -> int:
        """Number of distinct sizes."""
        return len(np.unique(self.params))

    @property
    def valid(self) -> dict[str, tuple[float, float]]:
        """The range of each quantity."""
        ratio = self.tokens / self.params
        quantities = {"params": self.params, "tokens": self.tokens, "flops": self.flops, "tokens_per_param": ratio}
        return {name: (float(values.min()), float(values.max())) for name, values in quantities.items()}

    def __getitem__(self, chosen: npt.NDArray[np.intp]) -> LossPoints:
        return LossPoints(
            params=self.params[chosen],
            tokens=self.tokens[chosen],
            flops=self.flops[chosen],
            loss=self.loss[chosen],
            units=tuple(self.units[int(at)] for at in chosen),
            excluded=self.excluded,
        )


def loss_points(records: Sequence[RunRecord], *, law: str, unfinished: bool = False) -> LossPoints:
    """The usable points in a fixed order. Raises MissingColumnError, or FitError where nothing is usable.

    Of a run whose learning rate decays only the end counts, unless `unfinished` points are wanted too. Where
    flops is not given it is 6 params tokens.
    """
    selection = select(records, ("params", "tokens", "loss"), law=law)
    last = {record.run_id: record.tokens for record in selection.used}
    ended = [r for r in selection.used if r.schedule not in DECAYING or r.tokens == last[r.run_id]]
    used = _at_most(list(selection.used) if unfinished else ended)
    if not used:
        raise FitError(f"the law {law!r} found no usable point among {len(records)}; see the runs left out")
    params, tokens, loss = (np.array([getattr(r, name) for r in used], float) for name in ("params", "tokens", "loss"))
    counted = FLOPS_PER_PARAM_TOKEN * params * tokens
    flops = np.array([own if r.flops is None else r.flops for r, own in zip(used, counted, strict=True)], float)
    units = tuple(record.run_id for record in used)
    return LossPoints(params=params, tokens=tokens, flops=flops, loss=loss, units=units, excluded=selection.excluded)


def _at_most(points: Sequence[RunRecord]) -> list[RunRecord]:
    """All points, or where they are more than MOST_POINTS fewer of each run, its last among them."""
    runs = len({point.run_id for point in points})
    if len(points) <= MOST_POINTS or runs == len(points):
        return list(points)
    every = math.ceil(len(points) / max(MOST_POINTS, runs))
    following = [*(point.run_id for point in points[1:]), None]
    ends = [at for at, point in enumerate(points) if point.run_id != following[at]]
    to_end = np.repeat(ends, np.diff([-1, *ends])) - np.arange(len(points))
    return [point for point, left in zip(points, to_end, strict=True) if left % every == 0]


def need(law: str, counts: Mapping[str, tuple[int, int]]) -> None:
    """Raise FitError where a count (what, (there are, needed)) is too small."""
    short = [f"{needed} {what} (there are {there})" for what, (there, needed) in counts.items() if there < needed]
    if short:
        raise FitError(f"the law {law!r} needs at least {' and '.join(short)}; measure more to fit it")


def replicate_weights(units: Sequence[str], draws: int, seed: int) -> Floats:
    """Bootstrap weights (draws, points) over whole units, which sum to the number of units.

    Multiplicities where units are many; below MANY_UNITS the Bayesian bootstrap's weights (Rubin 1981),
    under which no scale is ever missing: with multiplicities the spread is up to 1.3 times too large for
    15 to 42 runs, with these 0.9 to 1.0 (tests/benchmarks/calibration.py).
    """
    rng = np.random.default_rng(seed)
    index = unit_indices(units)
    count = int(index.max()) + 1
    if count >= MANY_UNITS:
        return bootstrap_weights(units, draws, rng).astype(float)
    weights: Floats = count * rng.dirichlet(np.ones(count), size=draws)[:, index]
    return weights


def positive_interval(value: float, draws: Floats, *, confidence: float, dof: float | None) -> Estimate:
    """An interval made in logarithms, for a quantity above zero; its standard error is in its own unit."""
    logs = interval(_log(value), np.log(np.maximum(draws, SMALLEST)), confidence=confidence, dof=dof)
    if logs.low is None or logs.high is None:
        return Estimate(value=value)
    low, high = np.exp(np.clip([logs.low, logs.high], -690.0, 690.0))
    return Estimate(value=value, low=float(low), high=float(high), stderr=float(np.std(draws, ddof=1)))


def offset_interval(value: float, draws: Floats, *, confidence: float, dof: float | None) -> Estimate:
    """An interval for the loss that is left at infinite scale, which is not negative."""
    found = interval(value, draws, confidence=confidence, dof=dof)
    return found if found.low is None else replace(found, low=max(found.low, 0.0))


def too_wide(estimates: Mapping[str, Estimate]) -> list[str]:
    """A reason for each positive quantity whose interval spans more than WIDEST_FACTOR."""
    return [
        f"the interval of {name} is wider than a factor of {WIDEST_FACTOR:g}"
        for name, estimate in estimates.items()
        if estimate.low is not None and estimate.high is not None and estimate.high > WIDEST_FACTOR * estimate.low
    ]


def unidentified(checks: Mapping[str, tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]) -> list[str]:
    """A reason for each bound on which the fit, or too many of its replicates, lies: (own, of replicates)."""
    reasons = []
    for what, (own, drawn) in checks.items():
        if own.any():
            reasons.append(f"{what}: these points do not identify it")
        elif drawn.mean() > MOST_AT_BOUND:
            reasons.append(f"{what} in {drawn.mean():.0%} of the replicates: these points hardly identify it")
    return reasons


def too_few_scales(scales: int) -> list[str]:
    """A reason where the law stands on fewer than FEWEST_SCALES sizes."""
    return [f"only {scales} scales; {FEWEST_SCALES} are needed to trust it"] if scales < FEWEST_SCALES else []


def _log(value: float) -> float:
    return float(np.log(max(value, SMALLEST)))
