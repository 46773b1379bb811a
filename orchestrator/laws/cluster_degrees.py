"""Degrees of freedom of a variance that few runs tell (Bell and McCaffrey 2002)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from orchestrator.laws.clustered_regression import shared_correlation
from orchestrator.laws.result import Floats

# Least part of a direction that a unit leaves to the others: below, the fit goes through it whatever it says. A guess.
LEAST_OWN = 0.05


def cluster_degrees(slopes: Floats, residuals: Floats, unit: npt.NDArray[np.int64]) -> Floats:
    """Degrees of freedom (parameters,) of the CR2 variance of each parameter of a least-squares fit.

    `slopes` (points, parameters) are those of the fit, `residuals` (points,) tell how strongly points of a unit
    (numbers 0, 1, ...) share noise. Runs at the ends of a design decide alone, so that these are fewer than
    units less parameters.
    """
    scale = np.linalg.norm(slopes, axis=0).clip(np.finfo(float).tiny)
    basis, sizes, right = np.linalg.svd(slopes / scale, full_matrices=False)
    to_parameters = right.T / np.maximum(sizes, 1e-10 * sizes[0])
    influence = _own(basis, unit) @ to_parameters.T
    shared = shared_correlation(slopes / scale, residuals, unit)
    return np.array([_degrees(column, basis, unit, shared) for column in influence.T])


def _own(basis: Floats, unit: npt.NDArray[np.int64]) -> Floats:
    """Rows of the basis, those of each unit divided by the root of what the fit leaves of them."""
    own = np.empty_like(basis)
    for number in range(int(unit.max()) + 1):
        rows = np.flatnonzero(unit == number)
        left, sizes, right = np.linalg.svd(basis[rows], full_matrices=False)
        own[rows] = (left * (sizes / np.sqrt(np.maximum(1 - sizes**2, LEAST_OWN)))) @ right
    return own


def _degrees(influence: Floats, basis: Floats, unit: npt.NDArray[np.int64], shared: float) -> float:
    """Satterthwaite's, of a sum of squares over units: influence' (1 - basis basis') noise."""
    through = _by_unit(influence[:, None] * basis, unit)
    together = np.diag(_by_unit(influence[:, None], unit)[:, 0]) - through @ _by_unit(basis, unit).T
    apart = np.diag(_by_unit(influence[:, None] ** 2, unit)[:, 0]) - through @ through.T
    covariance = shared * together @ together.T + (1 - shared) * apart
    return float(np.trace(covariance) ** 2 / np.maximum((covariance**2).sum(), np.finfo(float).tiny))


def _by_unit(columns: Floats, unit: npt.NDArray[np.int64]) -> Floats:
    total = np.zeros((int(unit.max()) + 1, columns.shape[1]))
    np.add.at(total, unit, columns)
    return total
