"""The law `kaplan-n`: the loss of a converged model, L(N) = (N_c / N)^alpha_N.

Kaplan et al. 2020 (arXiv:2001.08361), equation 1.1. N leaves out embeddings where the runs say so
(non_embedding_params), else it is what `params` counts. Of each size only its longest horizon enters
(its largest dataset where data are repeated). The law is weak where another doubling of tokens would
still lower that loss by more than 1 %, or where nothing tells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.laws.kaplan_points import (
    dataset_points,
    fall_per_doubling,
    last_of_runs,
    not_chosen,
    still_falling,
)
from orchestrator.laws.kaplan_power import FEWEST_POINTS, PowerPoints, fit_power, power_loss
from orchestrator.laws.loss_points import LossPoints, Parameters, need
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import FittedLaw, Floats, Status
from orchestrator.laws.selection import SAME_COUNT, cluster_numbers

NAME = "kaplan-n"
FORM = "(N_c / params)^alpha_N"
COLUMNS = ("params", "tokens", "loss")


def loss(parameters: Parameters, params: npt.ArrayLike) -> Floats:
    """Converged loss in nats per token; arguments broadcast."""
    return power_loss(parameters["alpha_N"], parameters["N_c"], params)


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law. Raises FitError below 3 sizes.

    Table `sizes`: a row a run that was used, with `fall_per_doubling` of its size's loss in tokens.
    """
    counted = dataset_points(records, law=NAME)
    points = counted.points
    size = cluster_numbers(points.params.tolist())
    need(NAME, {"sizes": (int(size.max()) + 1, FEWEST_POINTS)})
    chosen = _longest(points, size)
    fitted = fit_power(chosen, ("alpha_N", "N_c"), confidence=confidence, seed=seed, draws=draws)
    falls = [row["fall_per_doubling"] for row in chosen.rows]
    reasons = [*still_falling(chosen.x, falls, "tokens"), *fitted.reasons]
    return FittedLaw(
        name=NAME,
        form=f"{FORM}, {counted.counted}",
        parameters=fitted.parameters,
        draws=fitted.draws,
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid={"params": (float(chosen.x.min()), float(chosen.x.max()))},
        runs_used=len(set(chosen.units)),
        runs_excluded=not_chosen(points, chosen.units, "its size has a longer horizon"),
        objective=fitted.objective,
        tables={"sizes": chosen.rows},
    )


def _longest(points: LossPoints, size: npt.NDArray[np.int64]) -> PowerPoints:
    """The last point of each run that goes as far as any of its size."""
    falls = [fall_per_doubling(points.tokens[size == n], points.loss[size == n]) for n in range(size.max() + 1)]
    last = last_of_runs(points)
    longest = np.zeros(len(falls))
    np.maximum.at(longest, size[last], points.tokens[last])
    kept = last[points.tokens[last] >= longest[size[last]] * (1 - SAME_COUNT)]
    kept = kept[np.argsort(points.params[kept], kind="stable")]
    rows = [
        {
            "params": float(points.params[at]),
            "tokens": float(points.tokens[at]),
            "loss": float(points.loss[at]),
            "fall_per_doubling": falls[int(size[at])],
        }
        for at in kept
    ]
    chosen = points[kept]
    return PowerPoints(x=chosen.params, loss=chosen.loss, units=chosen.units, rows=rows)
