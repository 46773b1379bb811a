"""The error of loss that all tuned cells share, put into the laws fitted to them.

The envelope's losses come from one surface through all runs, so that they are too high or too low
together by a part of it; resampling the cells never shows that. Multiplying every loss by a factor f
multiplies what is a loss in a law (E, A, B) by f, and N_c in (N_c / N)^alpha by f^(1/alpha).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from orchestrator.laws import (
    chinchilla,
    compute_only,
    frontier,
    kaplan_c,
    kaplan_d,
    kaplan_n,
    kaplan_nd,
    overtraining,
)
from orchestrator.laws.optimum import OptimumFit
from orchestrator.laws.predicted import normal_scores
from orchestrator.laws.result import Estimate, FittedLaw, Floats

# For each law the parameters that move with the loss, and the exponent that each is raised to (None: to one).
_MOVED: Mapping[str, Mapping[str, str | None]] = {
    chinchilla.NAME: {"E": None, "A": None, "B": None},
    overtraining.NAME: {"E": None, "a": None, "b": None},
    frontier.NAME: {"E": None, "A": None},
    compute_only.NAME: {"intercept": None, "slope": None},
    kaplan_n.NAME: {"N_c": "alpha_N"},
    kaplan_d.NAME: {"D_c": "alpha_D"},
    kaplan_c.NAME: {"C_c": "alpha_C"},
    kaplan_nd.NAME: {"N_c": "alpha_N", "D_c": "alpha_D"},
}
_LARGEST_LOG = 690.0  # so that its exponential is a float64


@dataclass(frozen=True, kw_only=True)
class CommonError:
    """Standard error of log loss that all points share, and how many of it make the interval's half-width."""

    stderr: float
    quantile: float

    @classmethod
    def of(cls, optima: OptimumFit) -> CommonError:
        """That of the surface's mean floor, with Student's quantile of its degrees of freedom."""
        quantile = float(stats.t.ppf((1 + optima.confidence) / 2, optima.surface.dof))
        return cls(stderr=optima.loss_common_stderr, quantile=quantile)


def with_common_error(law: FittedLaw, error: CommonError) -> FittedLaw:
    """The law with draws and intervals that have the shared error too; one that no loss moves as it was."""
    moved = {name: exponent for name, exponent in _MOVED.get(law.name, {}).items() if name in law.parameters}
    if not moved or not error.stderr:
        return law
    parameters, drawn = dict(law.parameters), dict(law.draws)
    for name, exponent in moved.items():
        power = 1.0 if exponent is None else 1 / law.value(exponent)
        parameters[name] = _widened(law.parameters[name], power * error.stderr, error.quantile)
        if name in drawn:
            powers = 1.0 if exponent is None else 1 / law.draws[exponent]
            drawn[name] = _shifted(drawn[name], powers * error.stderr)
    return replace(law, parameters=parameters, draws=drawn)


def _shifted(draws: Floats, stderr: float | Floats) -> Floats:
    """One normal number a row, the same for each parameter."""
    with np.errstate(over="ignore"):
        moved = draws * np.exp(np.clip(stderr * normal_scores(draws.size, 1), -_LARGEST_LOG, _LARGEST_LOG))
    clipped: Floats = np.clip(moved, -math.exp(_LARGEST_LOG), math.exp(_LARGEST_LOG))
    return clipped


def _widened(found: Estimate, stderr: float, quantile: float) -> Estimate:
    """Both errors together; in logarithms where the interval is above zero."""
    if found.low is None or found.high is None:
        return found
    total = math.hypot(found.stderr or 0.0, stderr * found.value)
    if found.low > 0:
        below, above = (math.hypot(math.log(found.value / end), quantile * stderr) for end in (found.low, found.high))
        low = math.exp(max(math.log(found.value) - below, -_LARGEST_LOG))
        high = math.exp(min(math.log(found.value) + above, _LARGEST_LOG))
        return replace(found, low=low, high=high, stderr=total)
    moved = quantile * stderr * found.value
    low = found.low if found.low == 0 else found.value - math.hypot(found.value - found.low, moved)
    return replace(found, low=low, high=found.value + math.hypot(found.high - found.value, moved), stderr=total)
