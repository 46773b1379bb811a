"""The law `frontier`: the lowest loss at each compute, L*(C) = A C^-alpha + E.

Porian et al. 2024 (arXiv:2406.19146), section on the compute-optimal loss; Huber's loss (1e-3) on log
loss. C is what `flops` says. E rests on how the curve bends inside the window of compute that was
measured: in Porian's table it falls from 2.01 to 1.63 as the window grows. So the same fit to the
cheaper part of the window stands beside it, and an E that moves makes the law weak.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.laws.envelope_points import Frontier, frontier_points, frontier_samples
from orchestrator.laws.loss_points import (
    Parameters,
    loss_points,
    need,
    offset_interval,
    positive_interval,
    too_few_scales,
    too_wide,
    unidentified,
)
from orchestrator.laws.newton import Samples
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Estimate, FittedLaw, Floats, Status
from orchestrator.laws.varpro import Solutions, SumOfPowers, VariableProjection

NAME = "frontier"
FORM = "A / flops^alpha + E"
COLUMNS = ("params", "tokens", "loss")
PARAMETERS = 3
FEWEST_POINTS = 4  # one more than parameters
SOUND_POINTS = 6  # fewer leave next to nothing to judge the curve by. A guess
# The fit is repeated on these parts of the window's points, cheapest first: does E stay? A guess.
WINDOWS = (0.5, 0.75)


def loss(parameters: Parameters, flops: npt.ArrayLike) -> Floats:
    """Lowest loss in nats per token at this compute; arguments broadcast."""
    A, alpha, E = (np.asarray(parameters[name], float) for name in ("A", "alpha", "E"))
    value: Floats = A * np.asarray(flops, float) ** -alpha + E
    return value


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law to the frontier of the table. Raises FitError where that has fewer than 4 points.

    Tables: `frontier`, the points fitted to; `windows`, the parameters from the cheapest part of them.
    """
    points = loss_points(records, law=NAME)
    front = frontier_points(points)
    need(NAME, {"compute budgets on the frontier": (len(front.flops), FEWEST_POINTS)})
    samples = frontier_samples(points, front, draws, seed, fewest=PARAMETERS + 1)
    fitted = _fitted(front.flops, front.loss)
    replicates = fitted.refit(samples)
    drawn = _parameters(replicates)
    dof = float(max((front.units if front.measured else points.runs) - PARAMETERS, 1))
    parameters = {
        name: _estimate(name, float(value[0]), drawn[name], confidence, dof)
        for name, value in _parameters(fitted.best).items()
    }
    windows = _windows(front, samples, drawn["E"], confidence)
    reasons = [*front.reasons, *too_few_scales(points.scales), *_weaknesses(fitted.best, replicates)]
    if len(front.flops) < SOUND_POINTS:
        reasons.append(f"only {len(front.flops)} points on the frontier; {SOUND_POINTS} are needed to trust it")
    reasons += too_wide({name: parameters[name] for name in ("alpha", "E")}) + _moving(windows, parameters["E"].value)
    return FittedLaw(
        name=NAME,
        form=FORM,
        parameters=parameters,
        draws=drawn,
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid={"flops": (float(front.flops.min()), float(front.flops.max()))},
        runs_used=points.runs,
        runs_excluded=points.excluded,
        objective=float(fitted.best.objective[0]),
        tables={"frontier": front.rows, "windows": windows},
    )


def _fitted(flops: Floats, losses: Floats) -> VariableProjection:
    return VariableProjection(SumOfPowers(quantities=flops[None], loss=losses, shared=(0,)))


def _parameters(solutions: Solutions) -> dict[str, Floats]:
    return {"A": solutions.coefficients[:, 0], "alpha": solutions.exponents[:, 0], "E": solutions.offset}


def _estimate(name: str, value: float, drawn: Floats, confidence: float, dof: float) -> Estimate:
    make = offset_interval if name == "E" else positive_interval
    return make(value, drawn, confidence=confidence, dof=dof)


def _windows(front: Frontier, samples: Samples, drawn: Floats, confidence: float) -> list[dict[str, Any]]:
    """The fit to the cheapest parts; `moved`: in the same samples E differs from the whole window's."""
    rows = []
    tail = (1 - confidence) / 2
    for part in WINDOWS:
        count = round(part * len(front.flops))
        enough = (samples.weights[:, :count] > 0).sum(axis=1) > PARAMETERS
        if count < FEWEST_POINTS or enough.mean() < 0.5:
            continue
        short = _fitted(front.flops[:count], front.loss[:count])
        cheaper = Samples(weights=samples.weights[enough, :count], shifts=samples.shifts[enough, :count])
        low, high = np.quantile(drawn[enough] - short.refit(cheaper).offset, [tail, 1 - tail])
        own = {name: float(column[0]) for name, column in _parameters(short.best).items()}
        rows.append({"flops_max": float(front.flops[count - 1]), **own, "moved": bool(low > 0 or high < 0)})
    return rows


def _weaknesses(best: Solutions, replicates: Solutions) -> list[str]:
    return unidentified(
        {
            "E is zero": (best.offset_absent, replicates.offset_absent),
            "alpha is at a bound": (best.exponents_at_bound[:, 0], replicates.exponents_at_bound[:, 0]),
        }
    )


def _moving(windows: list[dict[str, Any]], whole: float) -> list[str]:
    return [
        f"E moves from {row['E']:.3g} to {whole:.3g} as the window grows beyond {row['flops_max']:.3g} FLOP"
        for row in windows
        if row["moved"]
    ]
