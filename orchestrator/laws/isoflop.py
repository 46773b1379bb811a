"""The law `isoflop`: the best size at each compute by a parabola, N*(C) = k C^a and D*(C) = kd C^b.

Hoffmann et al. 2022 (arXiv:2203.15556), Approach 2: at each compute budget a parabola of the loss in
log N, its vertex the best size; then power laws through the vertices. N is what `params` counts in the
table, C its `flops` (Hoffmann: all parameters, and FLOP counted in full). Runs that are not grouped in
budgets are read at equal compute (budgets.py). A parabola is a biased picture of an asymmetric valley,
so only sizes within WINDOW of the lowest enter it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.laws.allocation import FORM, Minima, estimates, lines, optimal_params, optimal_tokens
from orchestrator.laws.budgets import FEWEST_BUDGETS, FEWEST_SIZES, SOUND_SIZES, Budget, budgets, too_few_sizes
from orchestrator.laws.loss_points import (
    LossPoints,
    loss_points,
    need,
    too_few_scales,
    too_wide,
)
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import FittedLaw, Floats, Status
from orchestrator.laws.run_noise import BETWEEN, shifted_samples

__all__ = ["COLUMNS", "FORM", "NAME", "fit", "optimal_params", "optimal_tokens"]

NAME = "isoflop"
COLUMNS = ("params", "tokens", "loss")
# Sizes within this factor of the lowest one enter the parabola. A guess: at a factor of 2 the vertex is
# 0.3 % off for Hoffmann's constants, at 16 4 % (Czech et al. 2026), and its height suffers sooner.
WINDOW = 3.0
# Of the replicates, so many must have a minimum between the sizes for a budget to count (Porian et al. 2024).
SURVIVING = 0.5


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law. Raises FitError below 3 budgets with a minimum inside.

    Replicates give every run other noise: as large as the parabolas' residuals where the table has its
    own budgets, else as the residuals of a surface through all curves (run_noise.py).

    Table `minima`: a row a budget with flops, sizes, params, tokens, loss and whether it was used.
    """
    points = loss_points(records, law=NAME)
    found = budgets(points)
    need(NAME, {f"compute budgets with {FEWEST_SIZES} sizes": (len(found), FEWEST_BUDGETS)})
    own = _minima(found, np.zeros((1, len(points.loss))))
    shifts, noise_dof = _shifts(points, found, draws, seed)
    replicates = _minima(found, shifts)
    alive = np.isfinite(replicates.log_params).mean(axis=0)
    inside = np.isfinite(own.log_params[0]) & (alive > SURVIVING)
    need(NAME, {"compute budgets with their minimum between the sizes": (int(inside.sum()), FEWEST_BUDGETS)})
    log_flops, weights = np.log([budget.flops for budget in found]), np.tile(inside, (2, 1)).astype(float)
    values = {name: float(column[0]) for name, column in lines(log_flops, own, weights).items()}
    drawn = lines(log_flops, replicates, weights)
    kept = np.isfinite(drawn["a"]) & np.isfinite(drawn["b"])
    drawn = {name: column[kept] for name, column in drawn.items()}
    parameters = estimates(values, drawn, confidence=confidence, dof=noise_dof)
    reasons = too_few_scales(points.scales) + too_few_sizes([b for b, used in zip(found, inside, strict=True) if used])
    reasons += too_wide({name: parameters[name] for name in ("a", "b")})
    return FittedLaw(
        name=NAME,
        form=FORM,
        parameters=parameters,
        draws=drawn,
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid=points.valid,
        runs_used=points.runs,
        runs_excluded=points.excluded,
        tables={"minima": _table(found, own, replicates, inside)},
    )


def _shifts(points: LossPoints, found: Sequence[Budget], draws: int, seed: int) -> tuple[Floats, float]:
    """What each replicate adds to every point's log loss, (draws, points), and the noise's degrees of freedom."""
    if not all(budget.measured for budget in found):
        return shifted_samples(points, draws, seed), float(max(points.runs - BETWEEN, 1))
    squares, free = 0.0, 0
    for budget in found:
        rows = _near_lowest(budget)
        powers, losses = _powers(np.log(budget.params[rows])), budget.loss[rows]
        residuals = 1 - powers @ (np.linalg.pinv(powers) @ losses) / losses
        squares, free = squares + float((residuals**2).sum()), free + len(rows) - powers.shape[1]
    noise = np.sqrt(squares / max(free, 1))
    return noise * np.random.default_rng(seed).standard_normal((draws, len(points.loss))), float(max(free, 1))


def _minima(found: Sequence[Budget], shifts: Floats) -> Minima:
    """Every budget's vertex under each row of shifts."""
    logs = []
    for budget in found:
        rows = _near_lowest(budget)
        losses = budget.loss[rows] * np.exp(shifts[:, budget.points[rows]].mean(axis=2))
        log_params, lowest = _vertex(np.log(budget.params[rows]), losses)
        log_tokens, _ = _vertex(np.log(budget.tokens[rows]), losses)
        logs.append(np.where(np.isfinite(log_params + log_tokens), [log_params, log_tokens, np.log(lowest)], np.nan))
    log_params, log_tokens, log_loss = np.stack(logs, axis=2)
    return Minima(log_params=log_params, log_tokens=log_tokens, log_loss=log_loss)


def _near_lowest(budget: Budget) -> np.ndarray:
    """Sizes within WINDOW of the lowest, or the SOUND_SIZES nearest."""
    distance = np.abs(np.log(budget.params / budget.params[np.argmin(budget.loss)]))
    reach = max(np.log(WINDOW), np.sort(distance)[:SOUND_SIZES][-1])
    return np.flatnonzero(distance <= reach)


def _powers(x: Floats) -> Floats:
    """The parabola's columns 1, x, x^2 about the middle of x, (points, 3)."""
    offset = x - (x.max() + x.min()) / 2
    return np.stack([np.ones_like(x), offset, offset**2], axis=1)


def _vertex(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Where parabolas through each row of y (draws, points) are lowest and how low; NaN where not between the x."""
    height, slope, bend = np.linalg.pinv(_powers(x)) @ y.T
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
