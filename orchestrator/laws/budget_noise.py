"""The noise of losses at equal compute, from the table itself, and samples of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.budgets import SOUND_SIZES, Budget
from orchestrator.laws.fitted_surface import FittedSurface
from orchestrator.laws.loss_points import LossPoints
from orchestrator.laws.result import Floats
from orchestrator.laws.run_noise import BETWEEN, shifted_samples

# Sizes within this factor of the lowest one enter a parabola. A guess: at a factor of 2 the vertex is
# 0.3 % off for Hoffmann's constants, at 16 4 % (Czech et al. 2026), and its height suffers sooner.
WINDOW = 3.0


@dataclass(frozen=True, kw_only=True)
class BudgetNoise:
    """What each sample adds to every point's log loss, (samples, points), and the degrees of freedom it is known by."""

    shifts: Floats
    dof: float


def budget_noise(
    points: LossPoints, found: Sequence[Budget], surface: FittedSurface, *, draws: int, seed: int
) -> BudgetNoise:
    """Noise as large as what parabolas leave of the valleys near their lowest points, once their common skew is out.

    Where runs are read at several budgets: as large as the residuals of the surface, shared along each run.
    """
    if points.runs < len(points.loss) or not all(budget.measured for budget in found):
        shifts = shifted_samples(points, surface, draws, seed)
        return BudgetNoise(shifts=shifts, dof=float(max(points.runs - BETWEEN, 1)))
    noise, free = _residual_noise(found)
    normal = np.random.default_rng(seed).standard_normal((draws, len(points.loss)))
    return BudgetNoise(shifts=noise * normal, dof=float(max(free, 1)))


def _residual_noise(found: Sequence[Budget]) -> tuple[float, int]:
    """Standard deviation of log loss about a parabola a budget and one common cubic, and its degrees of freedom."""
    left, skew, free = [], [], -1
    for budget in found:
        rows = near_lowest(budget)
        x = np.log(budget.params[rows])
        columns, offset = parabola(x), x - (x.max() + x.min()) / 2
        seen = np.stack([np.log(budget.loss[rows]), offset**3], axis=1)
        residuals = seen - columns @ (np.linalg.pinv(columns) @ seen)
        left.append(residuals[:, 0])
        skew.append(residuals[:, 1])
        free += len(rows) - columns.shape[1]
    y, cubic = np.concatenate(left), np.concatenate(skew)
    y = y - cubic * (cubic @ y) / max(float(cubic @ cubic), np.finfo(float).tiny)
    return float(np.sqrt((y @ y) / max(free, 1))), free


def near_lowest(budget: Budget) -> np.ndarray:
    """Rows of the sizes within WINDOW of the lowest, or of the SOUND_SIZES nearest."""
    distance = np.abs(np.log(budget.params / budget.params[np.argmin(budget.loss)]))
    reach = max(np.log(WINDOW), np.sort(distance)[:SOUND_SIZES][-1])
    return np.flatnonzero(distance <= reach)


def parabola(x: Floats) -> Floats:
    """The columns 1, x, x^2 about the middle of x, (points, 3)."""
    offset = x - (x.max() + x.min()) / 2
    return np.stack([np.ones_like(x), offset, offset**2], axis=1)
