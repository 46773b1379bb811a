"""A straight line through points whose noise is partly shared within a run.

Draws are Student's t around a robust regression: exact for few points of normal noise, where a
bootstrap is too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.clustered_regression import Misfit, clustered_regression, misfit
from orchestrator.laws.result import Floats

# A bend is judged from so many different places on.
FEWEST_TO_BEND = 5


@dataclass(frozen=True, kw_only=True)
class Line:
    """y = coefficients[0] + coefficients[1] (x - centre), their covariance (2, 2) with `dof` degrees of freedom.

    `objective` as of the regression. `bend` is what a square term adds; None below FEWEST_TO_BEND places.
    """

    centre: float
    coefficients: Floats
    covariance: Floats
    dof: float
    objective: float
    bend: Misfit | None

    def draws(self, count: int, seed: int) -> Floats:
        """Joint draws of the coefficients, (count, 2)."""
        rng = np.random.default_rng(seed)
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        spread = np.sqrt(self.dof / rng.chisquare(self.dof, size=(count, 1)))
        drawn: Floats = self.coefficients + spread * (rng.standard_normal((count, 2)) @ root.T)
        return drawn


def clustered_line(x: Floats, y: Floats, units: Sequence[str]) -> Line:
    """Fit to three or more points with at least two values of x. Points of a unit share noise."""
    centre, scale = float(x.mean()), float(np.ptp(x)) or 1.0
    design = np.stack([np.ones_like(x), (x - centre) / scale], axis=1)
    found = clustered_regression(design, y, units)
    judged = len(np.unique(x)) >= FEWEST_TO_BEND
    unscale = np.diag([1.0, 1 / scale])
    return Line(
        centre=centre,
        coefficients=unscale @ found.coefficients,
        covariance=unscale @ found.covariance @ unscale,
        dof=found.dof,
        objective=found.objective,
        bend=misfit(design, design[:, 1:] ** 2, y, units) if judged else None,
    )
