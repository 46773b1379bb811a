"""The law `isoflop`: the best size at each compute by a parabola, N*(C) = k C^a and D*(C) = kd C^b.

Hoffmann et al. 2022 (arXiv:2203.15556), Approach 2: at each compute budget a parabola of the loss in
log N, its vertex the best size; then power laws through the vertices. N is what `params` counts in the
table, C its `flops` (Hoffmann: all parameters, and FLOP counted in full). Runs that are not grouped in
budgets are read at equal compute (budgets.py). A parabola is a biased picture of an asymmetric valley,
so only sizes near the lowest enter it, and what is left of the bias is reported: table `design_bias`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from orchestrator.laws.allocation import FORM, Minima, estimates, fitted, lines, optimal_params, optimal_tokens
from orchestrator.laws.budget_noise import budget_noise, near_lowest, parabola
from orchestrator.laws.budgets import FEWEST_BUDGETS, FEWEST_SIZES, Budget, budgets, too_few_sizes
from orchestrator.laws.design_bias import DesignBias
from orchestrator.laws.fitted_surface import fitted_surface
from orchestrator.laws.loss_points import (
    loss_points,
    need,
    too_few_scales,
    too_wide,
)
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import FittedLaw, Floats, Status

__all__ = ["COLUMNS", "FORM", "NAME", "fit", "optimal_params", "optimal_tokens"]

NAME = "isoflop"
COLUMNS = ("params", "tokens", "loss")
# Of the replicates, so many must have a minimum between the sizes for a budget to count (Porian et al. 2024).
SURVIVING = 0.5


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law. Raises FitError below 3 budgets with a minimum inside.

    Replicates give every run other noise, as large as the table's own (budget_noise.py).

    Tables: `minima`, a row a budget with flops, sizes, params, tokens, loss and whether it was used;
    `design_bias`, what parabolas at these sizes make of a surface's exponent.
    """
    points = loss_points(records, law=NAME)
    found = budgets(points)
    need(NAME, {f"compute budgets with {FEWEST_SIZES} sizes": (len(found), FEWEST_BUDGETS)})
    own = _minima(found, np.zeros((1, len(points.loss))))
    surface = fitted_surface(points)
    noise = budget_noise(points, found, surface, draws=draws, seed=seed)
    replicates = _minima(found, noise.shifts)
    alive = np.isfinite(replicates.log_params).mean(axis=0)
    inside = np.isfinite(own.log_params[0]) & (alive > SURVIVING)
    need(NAME, {"compute budgets with their minimum between the sizes": (int(inside.sum()), FEWEST_BUDGETS)})
    log_flops, weights = np.log([budget.flops for budget in found]), np.tile(inside, (2, 1)).astype(float)
    values = {name: float(column[0]) for name, column in lines(log_flops, own, weights).items()}
    drawn = fitted(lines(log_flops, replicates, weights), law=NAME)
    parameters = estimates(values, drawn, confidence=confidence, dof=noise.dof)
    on_surface = _minima(budgets(replace(points, loss=surface.loss(points))), np.zeros((1, len(points.loss))))
    bias = DesignBias.of(float(lines(log_flops, on_surface, weights)["a"][0]), surface)
    reasons = too_few_scales(points.scales) + too_few_sizes([b for b, used in zip(found, inside, strict=True) if used])
    reasons += too_wide({name: parameters[name] for name in ("a", "b")})
    return FittedLaw(
        name=NAME,
        form=FORM,
        parameters=parameters,
        draws=drawn,
        status=Status.WEAK if reasons or bias.weak else Status.OK,
        reason="; ".join([*reasons, *bias.notes(parameters["a"])]),
        confidence=confidence,
        valid=points.valid,
        runs_used=points.runs,
        runs_excluded=points.excluded,
        tables={"minima": _table(found, own, replicates, inside), "design_bias": bias.rows(parameters["a"])},
    )


def _minima(found: Sequence[Budget], shifts: Floats) -> Minima:
    """Every budget's vertex under each row of shifts."""
    logs = []
    for budget in found:
        rows = near_lowest(budget)
        losses = budget.loss[rows] * np.exp(shifts[:, budget.points[rows]].mean(axis=2))
        log_params, lowest = _vertex(np.log(budget.params[rows]), losses)
        log_tokens, _ = _vertex(np.log(budget.tokens[rows]), losses)
        logs.append(np.where(np.isfinite(log_params + log_tokens), [log_params, log_tokens, np.log(lowest)], np.nan))
    log_params, log_tokens, log_loss = np.stack(logs, axis=2)
    return Minima(log_params=log_params, log_tokens=log_tokens, log_loss=log_loss)


def _vertex(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Where parabolas through each row of y (draws, points) are lowest and how low; NaN where not between the x."""
    height, slope, bend = np.linalg.pinv(parabola(x)) @ y.T
    convex = bend > 0
    offset = np.where(convex, -slope / (2 * np.where(convex, bend, 1.0)), np.nan)
    inside = np.abs(offset) < (x.max() - x.min()) / 2
    place = (x.max() + x.min()) / 2 + offset
    return np.where(inside, place, np.nan), np.where(inside, height + slope * offset / 2, np.nan)


def _table(found: Sequence[Budget], own: Minima, replicates: Minima, inside: np.ndarray) -> list[dict[str, Any]]:
    rows = []
    for at, budget in enumerate(found):
        spread = np.nanstd(replicates.log_params[:, at]) if inside[at] else np.nan
        rows.append(
            {
                "flops": budget.flops,
                "sizes": len(budget.params),
                "params": float(np.exp(own.log_params[0, at])),
                "log_params_stderr": float(spread),
                "tokens": float(np.exp(own.log_tokens[0, at])),
                "loss": float(np.exp(own.log_loss[0, at])),
                "used": bool(inside[at]),
                "reason": "" if inside[at] else "its minimum lies at the edge of the sizes",
            }
        )
    return rows
