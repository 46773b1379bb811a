"""The frontier in C_min, the compute that a batch far below the critical one takes.

Kaplan et al. 2020 (arXiv:2001.08361), sections 5.1 and 6: the lowest loss is (C_c_min / C_min)^alpha_C_min,
C_min = C / (1 + B / B_crit(L)), with the critical batch of the law `critical-batch` fitted to the same
runs. Its error enters the intervals by its draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from orchestrator.laws import critical_batch
from orchestrator.laws.envelope_points import Frontier, frontier_points
from orchestrator.laws.kaplan_power import FEWEST_POINTS, LARGEST_LOG, PowerPoints, fit_power
from orchestrator.laws.loss_points import LossPoints, positive_interval
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Estimate, FittedLaw, Floats, Status
from orchestrator.laws.varpro import EXPONENT_BOUNDS
from search_spaces.errors import FitError

NAMES = ("alpha_C_min", "C_c_min")


@dataclass(frozen=True, kw_only=True)
class LeastCompute:
    """The two parameters with their draws, the frontier in C_min, and why it is weak."""

    parameters: Mapping[str, Estimate]
    draws: Mapping[str, Floats]
    frontier: Frontier
    reasons: Sequence[str]


def fit_least_compute(
    records: Sequence[RunRecord], points: LossPoints, *, confidence: float, seed: int, draws: int
) -> LeastCompute:
    """Fit to runs at several batch sizes.

    Raises MissingColumnError or FitError where these give no critical batch, or too short a frontier.
    """
    critical = critical_batch.fit(records, confidence=confidence, seed=seed, draws=draws)
    batches = {record.run_id: record.batch_tokens or np.nan for record in records}
    known = points[np.flatnonzero(np.isfinite([batches[unit] for unit in points.units]))]
    batch = np.array([batches[unit] for unit in known.units])
    values = {name: estimate.value for name, estimate in critical.parameters.items()}
    least = critical_batch.least_flops(values, known.flops, batch, known.loss)
    front = frontier_points(replace(known, flops=least))
    if len(front.flops) < FEWEST_POINTS:
        raise FitError(f"the frontier in C_min has {len(front.flops)} points; {FEWEST_POINTS} are needed")
    chosen = PowerPoints(x=front.flops, loss=front.loss, units=front.runs, rows=front.rows)
    fitted = fit_power(chosen, NAMES, confidence=confidence, seed=seed, draws=draws)
    drawn = _with_critical_error(fitted.draws, front, np.array([batches[run] for run in front.runs]), critical)
    parameters = {
        name: positive_interval(estimate.value, drawn[name], confidence=confidence, dof=None)
        for name, estimate in fitted.parameters.items()
    }
    reasons = [f"C_min: {reason}" for reason in (*front.reasons, *fitted.reasons)]
    if critical.status is not Status.OK:
        reasons.append(f"C_min: the critical batch is {critical.status.value}: {critical.reason}")
    return LeastCompute(parameters=parameters, draws=drawn, frontier=front, reasons=reasons)


def _with_critical_error(
    drawn: Mapping[str, Floats], front: Frontier, batch: Floats, critical: FittedLaw
) -> dict[str, Floats]:
    """The draws, moved as the line through the frontier moves under each draw of the critical batch."""
    values = {name: np.array([[estimate.value]]) for name, estimate in critical.parameters.items()}
    own = critical_batch.critical_batch(values, front.loss)
    other = critical_batch.critical_batch({n: column[:, None] for n, column in critical.draws.items()}, front.loss)
    moved = np.log(front.flops) + np.log1p(batch / own) - np.log1p(batch / other)
    (alpha, constant), (alphas, constants) = (_line(x, np.log(front.loss)) for x in (np.log(front.flops)[None], moved))
    exponents = np.clip(drawn[NAMES[0]] + alphas - alpha, *EXPONENT_BOUNDS)
    logs = np.clip(np.log(drawn[NAMES[1]]) + constants - constant, -LARGEST_LOG, LARGEST_LOG)
    return {NAMES[0]: exponents, NAMES[1]: np.exp(logs)}


def _line(x: Floats, y: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Exponent and log constant of least squares of y (points,) on each row of x (draws, points)."""
    away = x - x.mean(axis=1, keepdims=True)
    alpha = np.clip(-(away @ y) / (away**2).sum(axis=1), *EXPONENT_BOUNDS)
    return alpha, x.mean(axis=1) + y.mean() / alpha
