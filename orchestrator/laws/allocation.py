"""How the best size and the best token count grow with compute: N*(C) = k C^a, D*(C) = kd C^b."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.laws.loss_points import Parameters, need, positive_interval
from orchestrator.laws.resample import interval
from orchestrator.laws.result import Estimate, Floats

FORM = "params* = k flops^a, tokens* = kd flops^b"
# The two power laws' names of (coefficient, exponent), of params and of tokens.
NAMES = (("k", "a"), ("kd", "b"))
COEFFICIENTS = tuple(coefficient for coefficient, _ in NAMES)


def optimal_params(parameters: Parameters, flops: npt.ArrayLike) -> Floats:
    """N*(C) = k C^a; arguments broadcast."""
    return _power(parameters, flops, *NAMES[0])


def optimal_tokens(parameters: Parameters, flops: npt.ArrayLike) -> Floats:
    """D*(C) = kd C^b; arguments broadcast."""
    return _power(parameters, flops, *NAMES[1])


@dataclass(frozen=True, kw_only=True)
class Minima:
    """Logarithms of the best params, the best tokens and the loss there, each (draws, budgets).

    NaN where a draw has its lowest loss at the smallest or largest size of the budget: no minimum.
    """

    log_params: Floats
    log_tokens: Floats
    log_loss: Floats


def lines(log_flops: Floats, minima: Minima, weights: Floats) -> dict[str, Floats]:
    """Both power laws in every draw: `weights` (2, budgets) are for params and for tokens, each (draws,)."""
    found: dict[str, Floats] = {}
    for (coefficient, exponent), logs, weight in zip(
        NAMES, (minima.log_params, minima.log_tokens), weights, strict=True
    ):
        intercept, slope = line(log_flops, logs, weight)
        found[coefficient], found[exponent] = np.exp(intercept), slope
    return found


def line(x: Floats, y: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weighted least squares of each row of y on x, NaN left out: intercepts and slopes (rows,)."""
    weighted = np.where(np.isfinite(y), weights, 0.0)
    filled = np.nan_to_num(y)
    total = weighted.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = weighted @ x / total, (weighted * filled).sum(axis=1) / total
        offset = x - mean_x[:, None]
        spread = (weighted * offset**2).sum(axis=1)
        slope = np.where(spread > 0, (weighted * offset * (filled - mean_y[:, None])).sum(axis=1) / spread, np.nan)
    return mean_y - slope * mean_x, slope


def fitted(samples: dict[str, Floats], *, law: str) -> dict[str, Floats]:
    """The samples in which both power laws could be fitted. Raises FitError where these are fewer than 2."""
    kept = np.isfinite(samples["a"]) & np.isfinite(samples["b"])
    need(law, {"samples with enough minima": (int(kept.sum()), 2)})
    return {name: column[kept] for name, column in samples.items()}


def centred(samples: dict[str, Floats], values: dict[str, float]) -> dict[str, Floats]:
    """The samples moved so that their medians are the values; coefficients in logarithms."""
    return {
        name: values[name] * column / np.median(column)
        if name in COEFFICIENTS
        else values[name] + column - np.median(column)
        for name, column in samples.items()
    }


def estimates(
    values: dict[str, float], draws: dict[str, Floats], *, confidence: float, dof: float | None
) -> dict[str, Estimate]:
    """Intervals: exponents as they are, coefficients in logarithms."""
    found = {}
    for name, value in values.items():
        make = positive_interval if name in COEFFICIENTS else interval
        found[name] = make(value, draws[name], confidence=confidence, dof=dof)
    return found


def _power(parameters: Parameters, flops: npt.ArrayLike, coefficient: str, exponent: str) -> Floats:
    k, power = np.asarray(parameters[coefficient], float), np.asarray(parameters[exponent], float)
    value: Floats = k * np.asarray(flops, float) ** power
    return value
