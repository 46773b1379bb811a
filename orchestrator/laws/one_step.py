"""Replicates of a fit to many points by one Newton step each, from sums over the exchangeable units.

With thousands of points a fit under other weights lies so near the fit to all of them that one step from
there reaches it (the one-step bootstrap; Shao and Tu 1995, section 4.7): no replicate sees the points.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from orchestrator.laws.curve_fit import CurveFit, Fitted
from orchestrator.laws.newton import HUBER_DELTA
from orchestrator.laws.result import Floats

RIDGE = 1e-9  # relative, against parameters that no point tells


def one_step(fit: CurveFit, unit: npt.NDArray[np.int64], weights: Floats) -> Fitted:
    """The fit under each row of weights (rows, units); `unit` (points,) is the unit of each point.

    `objective` is that of the fit itself: the steps do not know theirs.
    """
    curve, theta = fit.curve, fit.best.theta
    residuals = curve.formula(theta)[0] - curve.log_values
    slopes = curve.slopes(theta)[0].T
    score = np.clip(residuals, -HUBER_DELTA, HUBER_DELTA)[:, None] * slopes
    inside = (np.abs(residuals) <= HUBER_DELTA)[:, None, None] * slopes[:, :, None] * slopes[:, None, :]
    size = theta.shape[1]
    gradient = weights @ _by_unit(score, unit)
    hessian = (weights @ _by_unit(inside.reshape(len(unit), -1), unit)).reshape(-1, size, size)
    diagonal = np.einsum("rii->ri", hessian)
    diagonal += RIDGE * (diagonal.max(axis=1, keepdims=True) + np.finfo(float).tiny)
    step = np.linalg.solve(hessian, -gradient[:, :, None])[:, :, 0]
    moved = np.clip(theta + step, curve.lower, curve.upper)
    at_bound = (moved <= curve.lower) | (moved >= curve.upper)
    return Fitted(theta=moved, objective=np.broadcast_to(fit.best.objective, len(moved)), at_bound=at_bound)


def _by_unit(columns: Floats, unit: npt.NDArray[np.int64]) -> Floats:
    """Columns (points, k) summed over the points of each unit, (units, k)."""
    summed = np.zeros((int(unit.max()) + 1, columns.shape[1]))
    np.add.at(summed, unit, columns)
    return summed
