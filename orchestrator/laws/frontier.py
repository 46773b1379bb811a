"""The law `frontier`: the lowest loss at each compute, L*(C) = A C^-alpha + E.

Porian et al. 2024 (arXiv:2406.19146), section on the compute-optimal loss; Huber's loss (1e-3) on log
loss. C is what `flops` says. At each compute budget (the table's own, or read from curves, see
budgets.py) the lowest loss over sizes is the inner minimum of an Akima spline over log N, so that it
does not depend on which sizes were tried; a table without budgets gives the points that no cheaper one
beats. E rests on how the curve bends inside the window of compute that was measured: in Porian's table
it falls from 2.01 to 1.63 as the window grows. So the same fit to shorter windows stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.laws.budgets import Budget, budgets
from orchestrator.laws.isoflop_akima import akima_minimum
from orchestrator.laws.loss_points import (
    MOST_AT_BOUND,
    LossPoints,
    Parameters,
    distinct,
    loss_points,
    need,
    positive_interval,
    replicate_weights,
    too_few_scales,
    too_wide,
)
from orchestrator.laws.records import RunRecord
from orchestrator.laws.resample import interval
from orchestrator.laws.result import Estimate, FittedLaw, Floats, Status
from orchestrator.laws.varpro import Solutions, SumOfPowers, VariableProjection

NAME = "frontier"
FORM = "A / flops^alpha + E"
COLUMNS = ("params", "tokens", "loss")
PARAMETERS = 3
FEWEST_POINTS = 4  # one more than parameters
# Of these parts of the window's points (cheapest first) the fit is repeated: does E stay? A guess.
WINDOWS = (0.5, 0.75)


def loss(parameters: Parameters, flops: npt.ArrayLike) -> Floats:
    """Lowest loss in nats per token at this compute; arguments broadcast."""
    A, alpha, E = (np.asarray(parameters[name], float) for name in ("A", "alpha", "E"))
    value: Floats = A * np.asarray(flops, float) ** -alpha + E
    return value


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law; replicates resample the runs that hold the frontier. Raises FitError below 4 points.

    Tables: `frontier`, the points fitted to; `windows`, the parameters from the cheapest part of them.
    """
    points = loss_points(records, law=NAME)
    front = frontier_points(points)
    need(NAME, {"compute budgets on the frontier": (len(front.loss), FEWEST_POINTS)})
    fitted = _fitted(front)
    weights = replicate_weights(front.units, draws, seed, lambda w: distinct(w, front.flops) > PARAMETERS)
    need(NAME, {"runs on the frontier": (0 if not len(weights) else front.runs, 2)})
    replicates = fitted.refit(weights)
    drawn, values = _parameters(replicates), {k: float(v[0]) for k, v in _parameters(fitted.best).items()}
    dof = float(max(front.runs - PARAMETERS, 1))
    parameters = {name: _estimate(name, values[name], drawn[name], confidence, dof) for name in values}
    windows = _windows(front, weights, drawn["E"], confidence)
    reasons = _substitute(points) + too_few_scales(points.scales)
    reasons += _weaknesses(fitted.best, replicates, parameters, windows)
    return FittedLaw(
        name=NAME,
        form=FORM,
        parameters=parameters,
        draws=drawn,
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid={"flops": front.valid["flops"]},
        runs_used=points.runs,
        runs_excluded=points.excluded,
        objective=float(fitted.best.objective[0]),
        tables={"frontier": _rows(front), "windows": windows},
    )


def frontier_points(points: LossPoints) -> LossPoints:
    """The lowest loss at each budget with the size that has it, by rising flops; its run is the unit."""
    found = _inner_minima(points)
    if len(found) < FEWEST_POINTS:
        return points[_unbeaten(points)]
    params, tokens, flops, losses = np.stack([row for row, _ in found], axis=1)
    return LossPoints(params=params, tokens=tokens, flops=flops, loss=losses, units=tuple(unit for _, unit in found))


def _substitute(points: LossPoints) -> list[str]:
    if len(_inner_minima(points)) >= FEWEST_POINTS:
        return []
    return ["no budgets with a minimum between the sizes: the points that no cheaper one beats stand for them"]


def _inner_minima(points: LossPoints) -> list[tuple[Floats, str]]:
    return [point for budget in budgets(points) if (point := _lowest(budget, points)) is not None]


def _lowest(budget: Budget, points: LossPoints) -> tuple[Floats, str] | None:
    """The (params, tokens, flops, loss) of a budget's inner minimum and the unit of the lowest size."""
    log_params, log_loss = akima_minimum(np.log(budget.params), np.log(budget.loss)[:, None])
    if not np.isfinite(log_params[0]):
        return None
    tokens = np.exp(np.interp(log_params[0], np.log(budget.params), np.log(budget.tokens)))
    row = np.array([np.exp(log_params[0]), tokens, budget.flops, np.exp(log_loss[0])])
    return row, points.units[int(budget.points[np.argmin(budget.loss), 1])]


def _unbeaten(points: LossPoints) -> npt.NDArray[np.intp]:
    """Rows whose loss no row with as little compute reaches, by rising flops."""
    order = np.lexsort((points.loss, points.flops))
    before = np.concatenate([[np.inf], np.minimum.accumulate(points.loss[order])[:-1]])
    return order[points.loss[order] < before]


def _fitted(front: LossPoints) -> VariableProjection:
    return VariableProjection(SumOfPowers(quantities=front.flops[None], loss=front.loss, shared=(0,)))


def _parameters(solutions: Solutions) -> dict[str, Floats]:
    return {"A": solutions.coefficients[:, 0], "alpha": solutions.exponents[:, 0], "E": solutions.offset}


def _estimate(name: str, value: float, drawn: Floats, confidence: float, dof: float) -> Estimate:
    make = interval if name == "E" else positive_interval
    return make(value, drawn, confidence=confidence, dof=dof)


def _windows(front: LossPoints, weights: Floats, drawn: Floats, confidence: float) -> list[dict[str, Any]]:
    """The fit to the cheapest parts; `moved`: by the same replicates E differs from the whole window's."""
    rows = []
    tail = (1 - confidence) / 2
    for part in WINDOWS:
        count = round(part * len(front.loss))
        enough = distinct(weights[:, :count], front.flops[:count]) > PARAMETERS
        if count < FEWEST_POINTS or enough.mean() < 0.5:
            continue
        short = _fitted(front[np.arange(count)])
        change = drawn[enough] - short.refit(weights[enough, :count]).offset
        low, high = np.quantile(change, [tail, 1 - tail])
        own = {name: float(column[0]) for name, column in _parameters(short.best).items()}
        rows.append({"flops_max": float(front.flops[count - 1]), **own, "moved": bool(low > 0 or high < 0)})
    return rows


def _weaknesses(
    best: Solutions, replicates: Solutions, parameters: dict[str, Estimate], windows: list[dict[str, Any]]
) -> list[str]:
    reasons = []
    for what, own, drawn in (
        ("E is zero", best.offset_absent, replicates.offset_absent),
        ("alpha is at a bound", best.exponents_at_bound[:, 0], replicates.exponents_at_bound[:, 0]),
    ):
        if own.any():
            reasons.append(f"{what}: this window of compute does not identify it")
        elif drawn.mean() > MOST_AT_BOUND:
            reasons.append(f"{what} in {drawn.mean():.0%} of the replicates: this window hardly identifies it")
    reasons += too_wide({name: parameters[name] for name in ("alpha", "E")})
    whole = parameters["E"].value
    return reasons + [
        f"E moves from {row['E']:.3g} to {whole:.3g} as the window grows beyond {row['flops_max']:.3g} FLOP"
        for row in windows
        if row["moved"]
    ]


def _rows(front: LossPoints) -> list[dict[str, float]]:
    names = ("flops", "params", "tokens", "loss")
    return [{name: float(getattr(front, name)[at]) for name in names} for at in range(len(front.loss))]
