"""The fit that Kaplan's three power laws share: L = (X_c / X)^alpha through chosen points.

Kaplan et al. 2020 (arXiv:2001.08361), equations 1.1 to 1.3: a straight line in logarithms without an
offset. Each law chooses its points; what bends away from a line, or has not converged, makes it weak.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.laws.clustered_line import Line, clustered_line
from orchestrator.laws.loss_points import FEWEST_SCALES, SMALLEST, positive_interval, too_wide, unidentified
from orchestrator.laws.result import Estimate, Floats
from orchestrator.laws.selection import cluster_numbers
from orchestrator.laws.varpro import EXPONENT_BOUNDS

# A line through fewer points leaves nothing to judge it by.
FEWEST_POINTS = 3
# Constants are kept inside e^-300 to e^300: their square is still a number. A guess.
LARGEST_LOG = 300.0


@dataclass(frozen=True, kw_only=True)
class PowerPoints:
    """What a line is drawn through: arrays (points,), and the run that decides each.

    `rows` are the points for people.
    """

    x: Floats
    loss: Floats
    units: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class PowerFit:
    """A fitted L = (X_c / X)^alpha: its two parameters, joint draws, and why it is weak."""

    parameters: Mapping[str, Estimate]
    draws: Mapping[str, Floats]
    reasons: Sequence[str]
    objective: float


def power_loss(alpha: npt.ArrayLike, constant: npt.ArrayLike, x: npt.ArrayLike) -> Floats:
    """(constant / x)^alpha in nats per token; arguments broadcast."""
    logs = np.log(np.asarray(constant, float)) - np.log(np.asarray(x, float))
    value: Floats = np.exp(np.asarray(alpha, float) * logs)
    return value


def fit_power(points: PowerPoints, names: tuple[str, str], *, confidence: float, seed: int, draws: int) -> PowerFit:
    """Fit (alpha, X_c), called by `names`, through three or more points."""
    log_loss = np.log(np.maximum(points.loss, SMALLEST))
    line = clustered_line(np.log(points.x), log_loss, points.units)
    values = _parameters(line.coefficients[None], line.centre, names)
    drawn = _parameters(line.draws(draws, seed), line.centre, names)
    parameters = {
        name: positive_interval(float(value[0]), drawn[name], confidence=confidence, dof=None)
        for name, value in values.items()
    }
    return PowerFit(
        parameters=parameters,
        draws=drawn,
        reasons=_weaknesses(points, line, names[0], (values, drawn), parameters),
        objective=line.objective,
    )


def _parameters(coefficients: Floats, centre: float, names: tuple[str, str]) -> dict[str, Floats]:
    """The exponent is -slope, kept above the bound of exponents; log X_c = centre + height / alpha."""
    alpha = np.clip(-coefficients[:, 1], *EXPONENT_BOUNDS)
    logs = np.clip(centre + coefficients[:, 0] / alpha, -LARGEST_LOG, LARGEST_LOG)
    return {names[0]: alpha, names[1]: np.exp(logs)}


def _weaknesses(
    points: PowerPoints,
    line: Line,
    alpha: str,
    found: tuple[Mapping[str, Floats], Mapping[str, Floats]],
    parameters: Mapping[str, Estimate],
) -> list[str]:
    reasons = []
    places = int(cluster_numbers(points.x.tolist()).max()) + 1
    if places < FEWEST_SCALES:
        reasons.append(f"only {places} points on the line; {FEWEST_SCALES} are needed to trust it")
    if len(set(points.units)) == 1:
        reasons.append("all points are of one run: its luck is not in the intervals")
    if line.bend is not None and line.bend.matters:
        reasons.append(f"the points bend away from a power law without an offset, by {line.bend.size:.1%} of the loss")
    at_bound = tuple((values[alpha] <= EXPONENT_BOUNDS[0]) | (values[alpha] >= EXPONENT_BOUNDS[1]) for values in found)
    return (
        reasons
        + unidentified({f"{alpha} is at a bound": (at_bound[0], at_bound[1])})
        + too_wide({alpha: parameters[alpha]})
    )
