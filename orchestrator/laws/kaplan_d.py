"""The law `kaplan-d`: the loss that the data allow, L(D) = (D_c / D)^alpha_D.

Kaplan et al. 2020 (arXiv:2001.08361), equation 1.2. D is tokens, or the size of the dataset where data
are repeated (unique_tokens; the early stop). At each token count that three sizes share, measured or
read from curves (token_counts.py), the largest size enters. The law is weak where another doubling of
params would still lower that loss by more than 1 %: the sizes are then too small for their data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from orchestrator.laws.kaplan_points import (
    CONVERGED_FALL,
    dataset_points,
    not_chosen,
    still_falling,
)
from orchestrator.laws.kaplan_power import FEWEST_POINTS, PowerPoints, fit_power, power_loss
from orchestrator.laws.loss_points import Parameters, need
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import FittedLaw, Floats, Status
from orchestrator.laws.selection import cluster_numbers
from orchestrator.laws.token_counts import FEWEST_SIZES, token_counts

NAME = "kaplan-d"
FORM = "(D_c / tokens)^alpha_D"
COLUMNS = ("params", "tokens", "loss")


def loss(parameters: Parameters, tokens: npt.ArrayLike) -> Floats:
    """Loss of a large model in nats per token; arguments broadcast."""
    return power_loss(parameters["alpha_D"], parameters["D_c"], tokens)


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law. Raises FitError below 3 token counts that 3 sizes share.

    Table `token_counts`: a row a token count, with `fall_per_doubling` of the loss in params there.
    """
    counted = dataset_points(records, law=NAME)
    points = counted.points
    found = token_counts(points)
    distinct = int(cluster_numbers([count.tokens for count in found]).max(initial=-1)) + 1
    need(NAME, {f"token counts that {FEWEST_SIZES} sizes share": (distinct, FEWEST_POINTS)})
    chosen = PowerPoints(
        x=np.array([count.tokens for count in found]),
        loss=np.array([count.loss for count in found]),
        units=tuple(count.run for count in found),
        rows=[asdict(count) for count in found],
    )
    fitted = fit_power(chosen, ("alpha_D", "D_c"), confidence=confidence, seed=seed, draws=draws)
    reasons = [*_size_limited(chosen), *fitted.reasons]
    return FittedLaw(
        name=NAME,
        form=f"{FORM}, {counted.counted}",
        parameters=fitted.parameters,
        draws=fitted.draws,
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid={"tokens": (float(chosen.x.min()), float(chosen.x.max()))},
        runs_used=len(set(chosen.units)),
        runs_excluded=not_chosen(points, chosen.units, "a larger size saw as many tokens"),
        objective=fitted.objective,
        tables={"token_counts": chosen.rows},
    )


def _size_limited(chosen: PowerPoints) -> list[str]:
    falls = [row["fall_per_doubling"] for row in chosen.rows]
    rises = sum(fall is not None and fall < -CONVERGED_FALL for fall in falls)
    reasons = still_falling(chosen.x, falls, "params")
    if 2 * rises > len(falls):
        reasons.append(f"at {rises} of {len(falls)} token counts smaller sizes have a lower loss: badly tuned runs")
    return reasons
