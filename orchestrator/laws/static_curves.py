"""Loss against compute of one shape that never changes: L(C) = a (C + d)^-b + c.

The form of Anagnostidis et al. 2023 (arXiv:2311.03233): d is the compute after which the power law begins,
c what is left at infinite compute. Parameters are numbers or arrays that broadcast against loss or flops.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from orchestrator.laws.curve_fit import Curve, CurveFit
from orchestrator.laws.loss_points import LossPoints, Parameters
from orchestrator.laws.newton import Samples
from orchestrator.laws.result import Floats
from orchestrator.laws.varpro import EXPONENT_BOUNDS

PARAMETERS = ("a", "b", "c", "d")
# Starts: exponents, offsets c as parts of the lowest loss, and d as multiples of the first compute. Guesses.
EXPONENT_STARTS = (0.05, 0.1, 0.2, 0.35, 0.6, 1.0, 1.6)
OFFSET_STARTS = (0.05, 0.3, 0.5, 0.7, 0.85, 0.95)
DELAY_STARTS = (0.003, 0.3, 3.0)
# Bounds: c between nothing (this part of the lowest loss) and the lowest loss; d between nothing (this part of the
# first compute) and the last compute.
LEAST_OFFSET, LEAST_DELAY = 1e-3, 1e-3
LOG_COEFFICIENTS = 30.0  # the log of a, at the middle of the compute, lies so near zero


def loss(parameters: Parameters, flops: npt.ArrayLike) -> Floats:
    """Loss in nats per token after this compute."""
    a, b, c, d = (np.asarray(parameters[name], float) for name in PARAMETERS)
    value: Floats = a * (np.asarray(flops, float) + d) ** -b + c
    return value


def flops_at(parameters: Parameters, loss: npt.ArrayLike) -> Floats:
    """The inverse: compute to this loss, FLOP; infinite where the loss is not above c."""
    a, b, c, d = (np.asarray(parameters[name], float) for name in PARAMETERS)
    above = np.asarray(loss, float) - c
    with np.errstate(over="ignore"):
        value: Floats = np.where(above > 0, (np.where(above > 0, above, 1.0) / a) ** (-1 / b) - d, np.inf)
    return value


def marginal_cost(parameters: Parameters, loss: npt.ArrayLike) -> Floats:
    """FLOP per nat that the loss is lowered by, here; infinite where the loss is not above c."""
    a, b, c, _ = (np.asarray(parameters[name], float) for name in PARAMETERS)
    above = np.asarray(loss, float) - c
    with np.errstate(over="ignore"):
        slope = (np.where(above > 0, above, 1.0) / a) ** (-1 / b - 1) / (a * b)
        value: Floats = np.where(above > 0, slope, np.inf)
    return value


@dataclass(frozen=True, kw_only=True)
class StaticFit:
    """A shape's curve: `own` parameters (1,) each and those of every sample (samples,).

    `at_bound` says which of b and c lie on a bound, (1 + samples, 2), the own fit first.
    """

    own: dict[str, Floats]
    drawn: dict[str, Floats]
    at_bound: npt.NDArray[np.bool_]
    objective: float


def fit_static(curve: LossPoints, shifts: Floats) -> StaticFit:
    """Fit the curve of one shape, and again with each row of shifts (samples, points) added to its log loss."""
    middle, lowest = float(np.log(curve.flops).mean()), float(curve.loss.min())
    flops = np.exp(np.log(curve.flops) - middle)
    problem = Curve(
        formula=lambda theta: _log_loss(theta, flops),
        log_values=np.log(curve.loss),
        lower=np.array(
            [-LOG_COEFFICIENTS, EXPONENT_BOUNDS[0], np.log(lowest * LEAST_OFFSET), np.log(flops.min() * LEAST_DELAY)]
        ),
        upper=np.array([LOG_COEFFICIENTS, EXPONENT_BOUNDS[1], np.log(lowest), np.log(flops.max())]),
    )
    fit = CurveFit(problem, _starts(flops, float(np.median(curve.loss)), lowest))
    replicates = fit.refit(Samples(weights=np.ones_like(shifts), shifts=shifts))
    return StaticFit(
        own=_parameters(fit.best.theta, middle),
        drawn=_parameters(replicates.theta, middle),
        at_bound=np.concatenate([fit.best.at_bound, replicates.at_bound])[:, 1:3],
        objective=float(fit.best.objective[0]),
    )


def _log_loss(theta: Floats, flops: Floats) -> Floats:
    log_a, b, log_c, log_d = (theta[:, [at]] for at in range(4))
    power: Floats = np.exp(log_a - b * np.log(flops + np.exp(log_d)))
    return np.log(power + np.exp(log_c))


def _starts(flops: Floats, typical: float, lowest: float) -> Floats:
    rows = []
    for b, part, delay in product(EXPONENT_STARTS, OFFSET_STARTS, DELAY_STARTS):
        d, c = delay * flops.min(), part * lowest
        rows.append([np.log(typical - c) + b * np.log(1 + d), b, np.log(c), np.log(d)])
    return np.array(rows)


def _parameters(theta: Floats, middle: float) -> dict[str, Floats]:
    log_a, b, log_c, log_d = theta.T
    return {"a": np.exp(log_a + b * middle), "b": b, "c": np.exp(log_c), "d": np.exp(log_d + middle)}
