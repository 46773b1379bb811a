"""The fit of the implicit loss to tuned curves, with the refits that leave curves out."""

from __future__ import annotations

import numpy as np

from orchestrator.laws import critical_batch
from orchestrator.laws.batch_curves import BatchCurves
from orchestrator.laws.critical_batch import LARGEST_LOG, bounded_exp
from orchestrator.laws.curve_fit import FINALISTS
from orchestrator.laws.jackknife import left_out_weights
from orchestrator.laws.loss_curve_form import CurveObjective
from orchestrator.laws.newton import Samples, polish
from orchestrator.laws.result import Floats
from orchestrator.laws.tradeoff_fit import HUBER_WIDTH, LEAST_SCALE, NORMAL_MAD, RESCALINGS, TradeoffFit

# Starts: exponents of both terms; their coefficients follow by least squares.
GRID_N, GRID_S = np.geomspace(0.02, 1.0, 14), np.geomspace(0.1, 3.0, 14)
LEAST_TERM = 1e-4  # nats: where least squares would take a term's coefficient below zero. A guess
SCREENING, POLISHING, REFITTING = 40, 300, 60


class LossCurveFit:
    """`theta` (6,) of CurveObjective; `left_out` (groups, 6) without each group of curves.

    With `staged` the critical batch is that of the hyperbolas alone, in every group as in the whole
    (Kaplan, Su); without it all six parameters are fitted to the curves at once.
    """

    def __init__(self, curves: BatchCurves, tradeoff: TradeoffFit, *, staged: bool) -> None:
        self.curves, self.tradeoff = curves, tradeoff
        box = tradeoff.lower, tradeoff.upper
        self.objective = CurveObjective(curves, middle=tradeoff.middle, box=box, fixed_batch=staged)
        one = np.ones((1, curves.loss.size))
        theta = self._from_starts(one)
        for _ in range(RESCALINGS):
            self.objective.width = self._robust_width(theta)
            theta, values = polish(self.objective, theta, Samples.weighted(one), POLISHING)
        self.theta, self.value = theta[0], float(values[0])
        weights = left_out_weights(curves.curve, curves.curves)
        near = np.repeat(theta, len(weights), axis=0)
        if staged:
            near[:, 4:] = critical_batch.left_out(curves, tradeoff)
        self.left_out = polish(self.objective, near, Samples.weighted(weights), REFITTING)[0]

    @property
    def at_bound(self) -> list[str]:
        """The exponents that lie on a bound of the box."""
        lower, upper = self.objective.lower, self.objective.upper
        bound = (self.theta <= lower) | (self.theta >= upper)
        return [name for name, at in (("alpha_N", 2), ("alpha_S", 3), ("alpha_B", 5)) if bound[at]]

    @property
    def absent(self) -> list[str]:
        """The terms whose coefficient lies on a bound: the curves do not show them."""
        bound = self.theta[:2] <= self.objective.lower[:2]
        return [name for name, lies in zip(("size", "steps"), bound, strict=True) if lies]

    @property
    def scatter(self) -> float:
        """Standard deviation of the curves' mean errors in log loss."""
        errors = self.objective.errors(self.theta[None])[0]
        means = np.bincount(self.curves.curve, errors) / np.bincount(self.curves.curve)
        return float(np.sqrt(np.sum(means**2) / self.dof))

    @property
    def dof(self) -> float:
        """Curves less parameters."""
        return float(max(self.curves.curves - self.theta.size, 1))

    def parameters(self, theta: Floats) -> dict[str, Floats]:
        """N_c alpha_N S_c alpha_S B_star alpha_B, arrays (rows,), of rows of theta."""
        inside = np.clip(theta, self.objective.lower, self.objective.upper)
        a, s, alpha_N, alpha_S = inside.T[:4]
        batch = critical_batch.as_parameters(inside[:, 4:], self.objective.middle)
        return {
            "N_c": bounded_exp(a / alpha_N + self.objective.place),
            "alpha_N": alpha_N,
            "S_c": bounded_exp(s / alpha_S + self.objective.pace),
            "alpha_S": alpha_S,
            **batch,
        }

    def _from_starts(self, one: Floats) -> Floats:
        """The best fit (1, 6) from a grid over both exponents, the critical batch from the hyperbolas."""
        grid = np.stack(np.meshgrid(GRID_N, GRID_S), axis=-1).reshape(-1, 2)
        starts = np.array([[*self._coefficients(*pair), *pair, *self.tradeoff.theta] for pair in grid])
        values = self.objective.value(starts, Samples.weighted(np.repeat(one, len(starts), axis=0)))
        best = starts[np.argsort(values, kind="stable")[:FINALISTS]]
        theta, values = polish(self.objective, best, Samples.weighted(np.repeat(one, len(best), axis=0)), SCREENING)
        return theta[[int(np.argmin(values))]]

    def _coefficients(self, alpha_N: float, alpha_S: float) -> tuple[float, float]:
        """Log coefficients by least squares on relative errors, given both exponents and the critical batch."""
        own, (centre, fall) = self.objective, self.tradeoff.theta
        log_above = np.logaddexp(0.0, centre - fall * (own.log_loss - own.middle) - own.log_batch)
        terms = np.stack([-alpha_N * own.log_params, alpha_S * (log_above - own.log_steps)])
        design = np.exp(np.clip(terms - own.log_loss, -LARGEST_LOG, LARGEST_LOG)).T
        found = np.linalg.lstsq(design, np.ones(len(design)), rcond=None)[0]
        size, steps = np.log(np.maximum(found, LEAST_TERM))
        return float(size), float(steps)

    def _robust_width(self, theta: Floats) -> float:
        errors = self.objective.errors(theta)[0]
        return max(HUBER_WIDTH * NORMAL_MAD * float(np.median(np.abs(errors))), LEAST_SCALE)
