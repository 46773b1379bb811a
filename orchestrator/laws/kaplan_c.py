"""The law `kaplan-c`: the lowest loss that compute allows, L(C) = (C_c / C)^alpha_C.

Kaplan et al. 2020 (arXiv:2001.08361), equation 1.3. C is what `flops` says (6 N tokens where it says
nothing, N without embeddings where the runs tell them apart). The points are the table's frontier, the
lowest loss over sizes at each compute (envelope_points.py). Beside it stands `frontier`, the same with
an offset: points that bend away from a straight line make this law weak. Where the runs have several
batch sizes that give a critical batch, alpha_C_min and C_c_min are the same in C_min (least_compute.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from orchestrator.laws.envelope_points import frontier_points
from orchestrator.laws.kaplan_points import kaplan_points
from orchestrator.laws.kaplan_power import FEWEST_POINTS, PowerPoints, fit_power, power_loss
from orchestrator.laws.least_compute import LeastCompute, fit_least_compute
from orchestrator.laws.loss_points import Parameters, need, too_few_scales
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import FittedLaw, Floats, Status
from search_spaces.errors import FitError, MissingColumnError

NAME = "kaplan-c"
FORM = "(C_c / flops)^alpha_C"
COLUMNS = ("params", "tokens", "loss")


def loss(parameters: Parameters, flops: npt.ArrayLike) -> Floats:
    """Lowest loss in nats per token at this compute; arguments broadcast."""
    return power_loss(parameters["alpha_C"], parameters["C_c"], flops)


def fit(
    records: Sequence[RunRecord],
    *,
    curves: Sequence[RunRecord] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    draws: int = 1000,
) -> FittedLaw:
    """Fit the law. Raises FitError below 3 points on the frontier.

    `curves` are the runs at several batch sizes, where the records are their envelope, which has none.
    Tables: `frontier`, a row a point; `least_compute`, the same in C_min, or why there is none.
    """
    counted = kaplan_points(records, law=NAME)
    points = counted.points
    front = frontier_points(points)
    need(NAME, {"compute budgets on the frontier": (len(front.flops), FEWEST_POINTS)})
    chosen = PowerPoints(x=front.flops, loss=front.loss, units=front.runs, rows=front.rows)
    fitted = fit_power(chosen, ("alpha_C", "C_c"), confidence=confidence, seed=seed, draws=draws)
    reasons = [*front.reasons, *too_few_scales(points.scales), *fitted.reasons]
    parameters, drawn = dict(fitted.parameters), dict(fitted.draws)
    least = _least_compute(records if curves is None else curves, confidence, seed, draws)
    if isinstance(least, LeastCompute):
        parameters |= least.parameters
        drawn |= least.draws
        reasons += least.reasons
    rows = least.frontier.rows if isinstance(least, LeastCompute) else [{"reason": least}]
    return FittedLaw(
        name=NAME,
        form=f"{FORM}, {counted.counted}",
        parameters=parameters,
        draws=drawn,
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid={"flops": (float(front.flops.min()), float(front.flops.max()))},
        runs_used=points.runs,
        runs_excluded=points.excluded,
        objective=fitted.objective,
        tables={"frontier": front.rows, "least_compute": rows},
    )


def _least_compute(records: Sequence[RunRecord], confidence: float, seed: int, draws: int) -> LeastCompute | str:
    """The law in C_min, or why there is none: it needs more than the rest of this law."""
    try:
        points = kaplan_points(records, law=NAME).points
        return fit_least_compute(records, points, confidence=confidence, seed=seed, draws=draws)
    except (MissingColumnError, FitError) as error:
        return str(error)
