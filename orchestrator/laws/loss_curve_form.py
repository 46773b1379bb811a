"""The implicit loss after S steps of batch B at size N, as a formula to fit.

    log L = log(e^size + e^steps),  size = a - alpha_N n,  steps = s + alpha_S (log(1 + B_crit(L) / B) - m)

with n and m centred logs of N and of S. The right-hand side falls with log L and is convex in it, so
Newton's method from below climbs to the one solution, and from above lands below it: nothing to guard.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.laws.batch_curves import BatchCurves
from orchestrator.laws.newton import HUBER_DELTA, Derivatives, Samples, huber, huber_weights
from orchestrator.laws.result import Floats

# Convergence of a log loss, and steps that even wild parameters need. A guess: ten are common at most.
TOLERANCE, MOST_STEPS = 1e-12, 100
# In a fit a log loss is that exact: a thousandth of what noise there is.
FIT_TOLERANCE = 1e-8
# Where the parameters are sought: log coefficients of both terms at the middle of the points, exponents.
COEFFICIENTS = (-12.0, 4.0)
EXPONENTS_N, EXPONENTS_S = (1e-3, 2.0), (0.02, 5.0)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Both terms but for what depends on the loss: `power` is alpha_S, `ratio` log(B_star / B), `fall` 1/alpha_B."""

    size: Floats
    steps: Floats
    power: Floats
    ratio: Floats
    fall: Floats


@dataclass(frozen=True, kw_only=True)
class Solved:
    """Log loss, the part of the loss that the steps' term is, B_crit / (B + B_crit), log(1 + B_crit / B)."""

    log_loss: Floats
    part: Floats
    share: Floats
    log_above: Floats


def solve(terms: Terms, start: Floats, tolerance: float) -> Solved:
    """The log loss x = log(e^size + e^(steps + alpha_S log(1 + e^(ratio - fall x)))), sought from `start`."""
    shape = np.broadcast_shapes(*(value.shape for value in (terms.size, terms.steps, terms.ratio, terms.fall)))
    log_loss = np.array(np.broadcast_to(start, shape))
    for _ in range(MOST_STEPS):
        over = terms.ratio - terms.fall * log_loss
        above = np.logaddexp(0.0, over)
        second = terms.steps + terms.power * above
        total = np.logaddexp(terms.size, second)
        part, share = np.exp(second - total), np.exp(over - above)
        moves = (total - log_loss) / (1 + part * terms.power * terms.fall * share)
        log_loss += moves
        if not np.abs(moves).max(initial=0.0) > tolerance:
            break
    return Solved(log_loss=log_loss, part=part, share=share, log_above=above)


class CurveObjective:
    """What `polish` minimises: theta (rows, 6) is (a, s, alpha_N, alpha_S, centre, fall).

    The last two are the line of B_crit, log B_crit = centre - fall (log L - middle); with `fixed_batch`
    they stay as they are in each row. Huber's loss has the width `width` in log loss.
    """

    def __init__(self, curves: BatchCurves, *, middle: float, box: tuple[Floats, Floats], fixed_batch: bool) -> None:
        """`box` are the bounds of (centre, fall)."""
        self.log_loss = np.log(curves.loss)
        self.place, self.log_params = _centred(curves.params)
        self.pace, self.log_steps = _centred(curves.steps)
        self.log_batch = np.log(curves.batch_tokens)
        self.middle = middle
        self.fixed_batch = fixed_batch
        self.width = HUBER_DELTA
        own = np.array([COEFFICIENTS, COEFFICIENTS, EXPONENTS_N, EXPONENTS_S]).T
        self.lower, self.upper = np.concatenate([own, np.stack(box)], axis=1)

    def errors(self, theta: Floats) -> Floats:
        """Log loss of the law less the measured, (rows, points)."""
        errors: Floats = self._solved(theta).log_loss - self.log_loss
        return errors

    def value(self, theta: Floats, samples: Samples) -> Floats:
        """The weighted sum of Huber's loss, (rows,), in units of (width / 0.001)^2."""
        scaled = self.errors(theta) * (HUBER_DELTA / self.width)
        total: Floats = np.einsum("ri,ri->r", samples.weights, huber(scaled))
        return total

    def derivatives(self, theta: Floats, samples: Samples) -> Derivatives:
        """Slopes by the implicit function; the Hessian leaves out the formula's own curvature, times at most delta."""
        solved, unit, weights = self._solved(theta), HUBER_DELTA / self.width, samples.weights
        scaled = (solved.log_loss - self.log_loss) * unit
        slope = self._slopes(theta, solved) * unit
        turned = slope.transpose(0, 2, 1)
        inside = weights * (np.abs(scaled) <= HUBER_DELTA)
        score = weights * np.clip(scaled, -HUBER_DELTA, HUBER_DELTA)
        hessian = slope @ (inside[:, :, None] * turned)
        bound = slope @ ((weights * huber_weights(scaled))[:, :, None] * turned)
        if self.fixed_batch:
            hessian[:, [4, 5], [4, 5]] = bound[:, [4, 5], [4, 5]] = 1.0
        return Derivatives(
            value=np.einsum("ri,ri->r", weights, huber(scaled)),
            gradient=(slope @ score[:, :, None])[:, :, 0],
            hessian=hessian,
            bound=bound,
        )

    def _solved(self, theta: Floats) -> Solved:
        a, s, alpha_N, alpha_S, centre, fall = (theta[:, [at]] for at in range(6))
        terms = Terms(
            size=a - alpha_N * self.log_params,
            steps=s - alpha_S * self.log_steps,
            power=alpha_S,
            ratio=centre + fall * self.middle - self.log_batch,
            fall=fall,
        )
        return solve(terms, self.log_loss, FIT_TOLERANCE)

    def _slopes(self, theta: Floats, solved: Solved) -> Floats:
        """d(log loss) / d(theta), (rows, 6, points)."""
        alpha_S, fall = theta[:, [3]], theta[:, [5]]
        batch = np.zeros_like(solved.part) if self.fixed_batch else solved.part * alpha_S * solved.share
        slope = np.stack(
            [
                1 - solved.part,
                solved.part,
                (solved.part - 1) * self.log_params,
                solved.part * (solved.log_above - self.log_steps),
                batch,
                -batch * (solved.log_loss - self.middle),
            ],
            axis=1,
        )
        slope /= (1 + solved.part * alpha_S * fall * solved.share)[:, None]
        return slope


def _centred(values: Floats) -> tuple[float, Floats]:
    logs = np.log(values)
    middle = float((logs.min() + logs.max()) / 2)
    return middle, logs - middle
