"""Seeded resampling and intervals that keep what they claim in small samples."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from orchestrator.laws.result import Estimate, Floats


def unit_indices(units: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    """The number of each entry's unit, 0, 1, ... in order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(unit, len(numbers)) for unit in units], dtype=np.int64)


def bootstrap_weights(units: Sequence[Hashable], draws: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """How often each entry appears in each draw, shape (draws, entries), when whole units are resampled.

    Entries of one unit (points of one run, cells of one scale) always appear together.
    """
    index = unit_indices(units)
    count = int(index.max()) + 1
    picked = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    return np.asarray(picked[:, index], dtype=np.int64)


def small_sample_factor(dof: float, confidence: float) -> float:
    """How much wider Student's t interval with `dof` degrees of freedom is than the normal one."""
    upper = (1 + confidence) / 2
    return float(stats.t.ppf(upper, dof) / stats.norm.ppf(upper))


def interval(value: float, draws: Floats, *, confidence: float, dof: float | None = None) -> Estimate:
    """A percentile interval around `value`, widened by Student's t where `dof` is given.

    A percentile bootstrap over 4 to 17 units covers 90-92 % where it claims 95 %: give `dof`, units
    less parameters. Draws that are not finite are left out; with none left the bounds are None.
    """
    finite = draws[np.isfinite(draws)]
    if finite.size < 2:
        return Estimate(value=value)
    tail = (1 - confidence) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    factor = 1.0 if dof is None else small_sample_factor(max(dof, 1.0), confidence)
    return Estimate(
        value=value,
        low=float(value - factor * max(value - low, 0.0)),
        high=float(value + factor * max(high - value, 0.0)),
        stderr=float(np.std(finite, ddof=1)),
    )
