"""Any smooth formula of a few parameters, fitted under Huber's loss on logs: grid of starts, then Newton.

For laws that are no sum of powers (those are varpro.py's). The formula is evaluated for many parameter
vectors at once; its slopes are taken numerically. A fit costs rows * points * 2 p evaluations a step: a
law with more than some thousand points thins them first, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.laws.newton import HUBER_DELTA, Derivatives, Samples, huber, huber_weights, polish
from orchestrator.laws.result import Floats

# Log predictions (rows, points) of parameter vectors (rows, p).
LogFormula = Callable[[Floats], Floats]

# Central differences: the cube root of the machine's precision, relative to a parameter of size one.
STEP = 6e-6
FINALISTS = 8  # starts that are polished to the end, the best of the grid. A guess
SCREENING, POLISHING = 30, 300  # Newton steps for the finalists, and for the best of them
BATCH_ELEMENTS = 400_000  # rows * points of one batch: bounds memory


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A formula and what it is fitted to: `log_values` (points,), parameters inside `lower` to `upper` (p,).

    Parameters should be of size one (logs of coefficients on centred quantities, exponents), so that
    numerical slopes and damping are right.
    """

    formula: LogFormula
    log_values: Floats
    lower: Floats
    upper: Floats

    def value(self, theta: Floats, samples: Samples) -> Floats:
        """The weighted sum of Huber's loss, (rows,)."""
        total: Floats = np.einsum("ri,ri->r", samples.weights, huber(self._residuals(theta, samples)))
        return total

    def derivatives(self, theta: Floats, samples: Samples) -> Derivatives:
        """Slopes by central differences; the Hessian leaves out the formula's own curvature, times at most delta."""
        residuals, weights = self._residuals(theta, samples), samples.weights
        slope = self.slopes(theta)
        turned = slope.transpose(0, 2, 1)
        score = weights * np.clip(residuals, -HUBER_DELTA, HUBER_DELTA)
        inside = weights * (np.abs(residuals) <= HUBER_DELTA)
        return Derivatives(
            value=np.einsum("ri,ri->r", weights, huber(residuals)),
            gradient=(slope @ score[:, :, None])[:, :, 0],
            hessian=slope @ (inside[:, :, None] * turned),
            bound=slope @ ((weights * huber_weights(residuals))[:, :, None] * turned),
        )

    def slopes(self, theta: Floats) -> Floats:
        """d(log prediction) / d(theta), (rows, p, points)."""
        rows, size = theta.shape
        moved = theta[:, None, None, :] + STEP * np.array([1.0, -1.0])[:, None, None] * np.eye(size)
        logs = self.formula(moved.reshape(-1, size)).reshape(rows, 2, size, -1)
        slope: Floats = (logs[:, 0] - logs[:, 1]) / (2 * STEP)
        return slope

    def _residuals(self, theta: Floats, samples: Samples) -> Floats:
        residuals: Floats = self.formula(theta) - self.log_values - samples.shifts
        return residuals


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Parameters (rows, p), the summed Huber loss (rows,), and which parameters lie on a bound (rows, p)."""

    theta: Floats
    objective: Floats
    at_bound: npt.NDArray[np.bool_]


class CurveFit:
    """The fit of one set of points: `best` under equal weights, `refit` to any number of samples."""

    def __init__(self, curve: Curve, starts: Floats) -> None:
        """`starts` (starts, p) should be a grid over everything plausible: nothing may depend on luck."""
        self.curve = curve
        values = _in_batches(curve, starts, lambda rows: curve.value(rows, _equal(curve, len(rows))))
        theta = starts[np.argsort(np.where(np.isfinite(values), values, np.inf), kind="stable")[:FINALISTS]]
        theta, values = polish(curve, theta, _equal(curve, len(theta)), iterations=SCREENING)
        theta = theta[[int(np.argmin(values))]]
        theta, values = polish(curve, theta, _equal(curve, 1), iterations=POLISHING)
        self.best = self._fitted(theta, values)

    def refit(self, samples: Samples) -> Fitted:
        """The best fit to each sample, from the best fit to all points."""
        rows = max(1, BATCH_ELEMENTS // samples.weights.shape[1])
        pieces = []
        for at in range(0, len(samples), rows):
            batch = samples[at : at + rows]
            near = np.broadcast_to(self.best.theta, (len(batch), self.best.theta.shape[1]))
            pieces.append(polish(self.curve, near, batch))
        return self._fitted(*(np.concatenate(piece) for piece in zip(*pieces, strict=True)))

    def _fitted(self, theta: Floats, values: Floats) -> Fitted:
        at_bound = (theta <= self.curve.lower) | (theta >= self.curve.upper)
        return Fitted(theta=theta, objective=values, at_bound=at_bound)


def _equal(curve: Curve, rows: int) -> Samples:
    return Samples.weighted(np.ones((rows, curve.log_values.size)))


def _in_batches(curve: Curve, theta: Floats, value: Callable[[Floats], Floats]) -> Floats:
    rows = max(1, BATCH_ELEMENTS // curve.log_values.size)
    return np.concatenate([value(theta[at : at + rows]) for at in range(0, len(theta), rows)])
