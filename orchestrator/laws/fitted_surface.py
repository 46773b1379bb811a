"""The loss surface E + A/N^alpha + B/D^beta through a table's points, to judge other laws by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.laws import chinchilla
from orchestrator.laws.loss_points import LossPoints
from orchestrator.laws.result import Floats
from orchestrator.laws.varpro import SumOfPowers, VariableProjection

# More points than these move the surface by less than the runs' noise does, and cost time. A guess.
MOST_POINTS = 500


@dataclass(frozen=True, kw_only=True)
class FittedSurface:
    """`parameters` are E, A, B, alpha, beta; `identified` where neither power is absent nor at a bound."""

    parameters: dict[str, float]
    identified: bool

    @property
    def size_exponent(self) -> float:
        """Exponent of the best size at C = 6 N D: beta / (alpha + beta)."""
        return self.parameters["beta"] / (self.parameters["alpha"] + self.parameters["beta"])

    def loss(self, points: LossPoints) -> Floats:
        """The surface at the points, (points,)."""
        return chinchilla.loss(self.parameters, points.params, points.tokens)


def fitted_surface(points: LossPoints) -> FittedSurface:
    """The surface through the points, of a large table through MOST_POINTS evenly chosen ones."""
    order = np.lexsort((points.tokens, points.params))
    chosen = points[order[np.unique(np.linspace(0, len(order) - 1, MOST_POINTS).astype(np.intp))]]
    quantities = np.stack([chosen.params, chosen.tokens])
    best = VariableProjection(SumOfPowers(quantities=quantities, loss=chosen.loss, shared=(0, 1))).best
    (A, B), (alpha, beta) = best.coefficients[0], best.exponents[0]
    values = {"E": best.offset[0], "A": A, "B": B, "alpha": alpha, "beta": beta}
    return FittedSurface(
        parameters={name: float(value) for name, value in values.items()},
        identified=not (best.terms_absent.any() or best.exponents_at_bound.any()),
    )
