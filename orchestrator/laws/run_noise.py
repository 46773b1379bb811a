"""Samples of a table in which every run has other luck: its whole curve shifted, its points too.

For estimates that need every size at its place (a minimum between three sizes), where resampling runs
would leave nothing. The sizes of both shifts come from the residuals of the law `chinchilla`'s form, so
that what this form misses counts as noise: the intervals are rather too wide.
"""

from __future__ import annotations

import numpy as np

from orchestrator.laws.fitted_surface import FittedSurface
from orchestrator.laws.loss_points import LossPoints
from orchestrator.laws.resample import unit_indices
from orchestrator.laws.result import Floats

# Parameters of the form that differences between runs, and those inside runs, determine.
BETWEEN, WITHIN = 3, 2


def shifted_samples(points: LossPoints, surface: FittedSurface, draws: int, seed: int) -> Floats:
    """What each sample adds to every point's log loss, (draws, points). `surface` is the one through the points."""
    residuals: Floats = np.log(points.loss / surface.loss(points))
    unit = unit_indices(points.units)
    counts = np.bincount(unit)
    means = np.bincount(unit, residuals) / counts
    inside = residuals - means[unit]
    within = float((inside**2).sum() / max(len(residuals) - len(counts) - WITHIN, 1))
    between = float((means**2).sum() / max(len(counts) - BETWEEN, 1))
    rng = np.random.default_rng(seed)
    of_runs = np.sqrt(between) * rng.standard_normal((draws, len(counts)))
    of_points = np.sqrt(within) * rng.standard_normal((draws, len(residuals)))
    shifts: Floats = of_runs[:, unit] + of_points
    return shifts
