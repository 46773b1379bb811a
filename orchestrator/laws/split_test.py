"""The likelihood-ratio test whether the split of compute into params and tokens changes the loss.

Nested regressions of the loss on ln C and (ln C)^2, without and with powers of ln(N / D). The square of
ln C is on both sides, so that a loss that bends with compute alone is not taken for a split. Points of one
run have a correlation, chosen by likelihood on each side. The chance of a statistic comes from the
parametric bootstrap under the smaller model: with few runs chi-squared would reject far too often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.laws.loss_points import LossPoints
from orchestrator.laws.resample import unit_indices
from orchestrator.laws.result import Floats

# Correlations of the points of one run to choose from.
CORRELATIONS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.98)
# More points than this are thinned, the same number from each run, at least the ends: they hardly change the test.
# A guess.
MOST_POINTS = 1000
# Draws times points are no more than this, but draws no fewer than 200: bounds time and memory.
MOST_DRAWN = 1_000_000
FEWEST_DRAWS = 200
# Least standard deviation of ln(N / D) that ln C does not explain. A guess: splits a tenth apart tell nothing.
LEAST_SPLIT = 0.1
TINY = 1e-300


@dataclass(frozen=True, kw_only=True)
class NestedTest:
    """Whether added columns matter: -2 log likelihood ratio, the columns added, and the chance of it by luck."""

    adds: str
    statistic: float
    degrees_of_freedom: int
    p_value: float


def split_tests(points: LossPoints, *, draws: int, seed: int) -> list[NestedTest]:
    """The tests for ln(N/D), and for ln(N/D) and its square; none where the runs cannot carry them.

    They need runs of several splits at like compute, and two runs more than coefficients.
    """
    points = _thinned(points)
    log_flops, split = np.log(points.flops), np.log(points.params / points.tokens)
    log_flops, split = log_flops - log_flops.mean(), split - split.mean()
    null = np.stack([np.ones_like(split), log_flops, log_flops**2], axis=1)
    if not _tells_split(null, split) or points.runs < null.shape[1] + 4:
        return []
    added = {"ln(N/D)": split[:, None], "ln(N/D) and its square": np.stack([split, split**2], axis=1)}
    unit = unit_indices(points.units)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((min(draws, max(FEWEST_DRAWS, MOST_DRAWN // len(split))), len(split)))
    small = _Model(null, unit)
    own, best = small.likelihood(points.loss[None])
    luck = _correlated(noise, unit, CORRELATIONS[int(best[0])])
    below = np.concatenate([own, small.likelihood(luck)[0]])
    values = np.concatenate([points.loss[None], luck])
    return [_nested(name, null, columns, values=values, below=below, unit=unit) for name, columns in added.items()]


def _tells_split(null: Floats, split: Floats) -> bool:
    left = split - null @ np.linalg.lstsq(null, split, rcond=None)[0]
    return bool(left.std() > LEAST_SPLIT)


def _nested(
    name: str, null: Floats, added: Floats, *, values: Floats, below: Floats, unit: npt.NDArray[np.int64]
) -> NestedTest:
    """`values` (1 + draws, points) are the losses, then luck; `below` their log likelihoods under the null."""
    statistics = 2 * (_Model(np.concatenate([null, added], axis=1), unit).likelihood(values)[0] - below)
    chance = float((statistics >= statistics[0]).mean())
    return NestedTest(adds=name, statistic=float(statistics[0]), degrees_of_freedom=added.shape[1], p_value=chance)


class _Model:
    """A regression whose noise is equally correlated within a unit, at each of CORRELATIONS."""

    def __init__(self, design: Floats, unit: npt.NDArray[np.int64]) -> None:
        sizes = np.bincount(unit)
        several = int(sizes.max()) > 1
        self._unit, self._correlations = unit, CORRELATIONS if several else CORRELATIONS[:1]
        self._bases = [np.linalg.qr(_independent(design.T, unit, each).T)[0] for each in self._correlations]
        self._log_dets = [
            float(((sizes - 1) * np.log(1 - each) + np.log(1 - each + each * sizes)).sum())
            for each in self._correlations
        ]

    def likelihood(self, values: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
        """The largest log likelihood of each row of values (rows, points), and the number of its correlation."""
        found = []
        for correlation, basis, log_det in zip(self._correlations, self._bases, self._log_dets, strict=True):
            rows = _independent(values, self._unit, correlation)
            squares = (rows**2).sum(axis=1) - ((rows @ basis) ** 2).sum(axis=1)
            found.append(-0.5 * (log_det + rows.shape[1] * np.log(np.maximum(squares, TINY))))
        table = np.stack(found)
        return table.max(axis=0), np.argmax(table, axis=0)


def _unit_means(rows: Floats, unit: npt.NDArray[np.int64]) -> Floats:
    """Each row (rows, points) with every point replaced by the mean of its unit."""
    sizes = np.bincount(unit)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    means: Floats = (np.add.reduceat(rows, starts, axis=1) / sizes)[:, unit]
    return means


def _independent(rows: Floats, unit: npt.NDArray[np.int64], correlation: float) -> Floats:
    """Rows (rows, points) in coordinates in which noise of this correlation is independent."""
    means = _unit_means(rows, unit)
    common = np.sqrt(1 - correlation + correlation * np.bincount(unit))[unit]
    changed: Floats = (rows - means) / np.sqrt(1 - correlation) + means / common
    return changed


def _correlated(rows: Floats, unit: npt.NDArray[np.int64], correlation: float) -> Floats:
    """The inverse of `_independent`."""
    means = _unit_means(rows, unit)
    common = np.sqrt(1 - correlation + correlation * np.bincount(unit))[unit]
    changed: Floats = (rows - means) * np.sqrt(1 - correlation) + means * common
    return changed


def _thinned(points: LossPoints) -> LossPoints:
    """At most about MOST_POINTS, the longest of each run among them, ordered by unit."""
    order = np.argsort(unit_indices(points.units), kind="stable")
    unit = unit_indices([points.units[at] for at in order])
    each = max(2, MOST_POINTS // points.runs)
    kept: list[int] = []
    for rows in _split(order, unit):
        by_tokens = rows[np.argsort(points.tokens[rows], kind="stable")]
        places = np.linspace(len(rows) - 1, 0, min(each, len(rows))).round().astype(int)
        kept += [int(by_tokens[place]) for place in sorted(places)]
    return points[np.array(kept)]


def _split(order: npt.NDArray[np.intp], unit: npt.NDArray[np.int64]) -> Sequence[npt.NDArray[np.intp]]:
    """The rows of each unit."""
    return np.split(order, np.flatnonzero(np.diff(unit)) + 1)
