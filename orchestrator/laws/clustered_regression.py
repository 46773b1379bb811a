"""Robust linear regression on points whose noise is partly shared within a run.

Points of one run have a correlation, found by restricted maximum likelihood; the coefficients are
Huber's M-estimate with its scale found beside it (Huber 1981, Proposal 2), so that one bad point moves
little and few good points lose little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from orchestrator.laws.resample import unit_indices
from orchestrator.laws.result import Floats

Ints = npt.NDArray[np.int64]

# Huber's threshold in standard deviations: 95 % efficient under normal noise (Huber 1981) ...
THRESHOLD = 1.345
# ... and the mean square of a standard normal number cut off there.
CUT_VARIANCE = 0.7102
ROUNDS = 50  # reweightings at most; they end when the scale changes by a smaller part than this
SETTLED = 1e-10
# Correlations within a run to choose from.
CORRELATIONS = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.96, 0.98, 0.99, 0.995])
# A misfit is real where chance gives it more rarely than this, and matters from this size on. Guesses: with
# enough points every law is wrong; a thousandth of the loss is little beside the noise between runs.
MISFIT_CHANCE, MISFIT_SIZE = 0.01, 0.001


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Coefficients (p,), their covariance (p, p) with `dof` degrees of freedom.

    `objective` is the summed square of the decorrelated residuals, cut off by Huber's rule, in units of y.
    """

    coefficients: Floats
    covariance: Floats
    dof: float
    objective: float


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """What terms beyond a formula explain: their root mean square over the points, and its chance without them."""

    size: float
    chance: float

    @property
    def matters(self) -> bool:
        """Whether the points contradict the formula by more than noise and more than nothing."""
        return self.chance < MISFIT_CHANCE and self.size > MISFIT_SIZE


def clustered_regression(design: Floats, y: Floats, units: Sequence[str]) -> Regression:
    """Regress y (points,) on the columns of design (points, p). Points of a unit share noise."""
    unit = unit_indices(units)
    return _robust(design, y, unit, shared_correlation(design, y, unit))


def misfit(design: Floats, added: Floats, y: Floats, units: Sequence[str]) -> Misfit | None:
    """Wald's test of the added columns (points, k); None where the points cannot tell them from the others."""
    both = np.column_stack([design, added])
    if len(y) <= both.shape[1] + 1 or np.linalg.matrix_rank(both) < both.shape[1]:
        return None
    unit, terms = unit_indices(units), added.shape[1]
    found = _robust(both, y, unit, shared_correlation(design, y, unit))
    coefficients, covariance = found.coefficients[-terms:], found.covariance[-terms:, -terms:]
    if not np.linalg.eigvalsh(covariance).min() > 0:
        return None
    statistic = float(coefficients @ np.linalg.solve(covariance, coefficients)) / terms
    beyond = added - design @ np.linalg.lstsq(design, added, rcond=None)[0]
    size = float(np.sqrt(((beyond @ coefficients) ** 2).mean()))
    return Misfit(size=size, chance=float(stats.f.sf(statistic, terms, found.dof)))


def _robust(design: Floats, y: Floats, unit: Ints, correlation: float) -> Regression:
    """Huber's Proposal 2 on decorrelated rows."""
    rows, values = _decorrelated(design, unit, correlation), _decorrelated(y[:, None], unit, correlation)[:, 0]
    count, size = rows.shape
    free = max(count - size, 1)
    weights, scale = np.ones(count), np.inf
    rounding = float(np.finfo(np.float64).eps * np.abs(values).max())
    for _ in range(ROUNDS):
        gram = (rows * weights[:, None]).T @ rows
        coefficients = np.asarray(np.linalg.lstsq(gram, rows.T @ (weights * values), rcond=None)[0], dtype=np.float64)
        away = np.abs(values - rows @ coefficients)
        cut = np.minimum(away, THRESHOLD * scale)
        consistent = CUT_VARIANCE if np.isfinite(scale) else 1.0
        before, scale = scale, float(np.sqrt((cut**2).sum() / (free * consistent)))
        weights = np.minimum(1.0, THRESHOLD * scale / np.maximum(away, 1e-300)) if scale > rounding else np.ones(count)
        if abs(scale - before) <= SETTLED * scale:
            break
    inside = max(float((weights == 1.0).mean()), 1 / count)
    correction = 1 + size / count * (1 - inside) / inside
    cut = np.minimum(away, THRESHOLD * scale)
    variance = correction**2 * float((cut**2).sum()) / free / inside**2
    return Regression(
        coefficients=coefficients,
        covariance=variance * np.linalg.pinv(rows.T @ rows),
        dof=_degrees(unit, size),
        objective=float((cut**2).sum()),
    )


def _degrees(unit: Ints, size: int) -> float:
    """Units less parameters; points less parameters where all are of one run."""
    units = int(unit.max()) + 1
    return float(max((units if units > 1 else len(unit)) - size, 1))


def shared_correlation(design: Floats, y: Floats, unit: Ints) -> float:
    """The most likely correlation of points of one run; zero where no run, or a single one, has several."""
    units = int(unit.max()) + 1
    if units in {1, len(unit)}:
        return 0.0
    likelihoods = [_restricted_likelihood(design, y, unit, float(value)) for value in CORRELATIONS]
    return float(CORRELATIONS[int(np.argmax(likelihoods))])


def _restricted_likelihood(design: Floats, y: Floats, unit: Ints, correlation: float) -> float:
    """The restricted log likelihood of normal noise at this correlation, its scale profiled out."""
    rows, values = _decorrelated(design, unit, correlation), _decorrelated(y[:, None], unit, correlation)[:, 0]
    residuals = values - rows @ np.linalg.lstsq(rows, values, rcond=None)[0]
    sizes = np.bincount(unit)
    log_det = ((sizes - 1) * np.log(1 - correlation) + np.log(1 - correlation + correlation * sizes)).sum()
    information = np.linalg.slogdet(rows.T @ rows)[1]
    free = len(values) - design.shape[1]
    return float(-0.5 * (log_det + information + free * np.log(max(float(residuals @ residuals), 1e-300))))


def _decorrelated(columns: Floats, unit: Ints, correlation: float) -> Floats:
    """Columns (points, k) in coordinates in which equally correlated noise of units is independent."""
    sizes = np.bincount(unit)
    means = np.stack([np.bincount(unit, column) / sizes for column in columns.T], axis=1)[unit]
    common = np.sqrt(1 - correlation + correlation * sizes)[unit][:, None]
    independent: Floats = (columns - means) / np.sqrt(1 - correlation) + means / common
    return independent
