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
    replicate_weights,
    too_few_scales,
    too_wide,
)
from orchestrator.laws.newton import Samples
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import FittedLaw, Floats, Status
from orchestrator.laws.run_noise import shifted_samples

__all__ = ["COLUMNS", "FORM", "NAME", "fit", "optimal_params", "optimal_tokens"]

NAME = "isoflop"
COLUMNS = ("params", "tokens", "loss")
# Sizes within this factor of the lowest one enter the parabola. A guess: at a factor of 2 the vertex is
# 0.3 % off for Hoffmann's constants, at 16 4 % (Czech et al. 2026), and its height suffers sooner.
WINDOW = 3.0
# Of the replicates, so many must have a minimum between the sizes for a budget to count (Porian et al. 2024).
SURVIVING = 0.5
RIDGE = 1e-10


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law. Raises FitError below 3 budgets with a minimum inside.

    Replicates resample whole runs where the table has its own budgets, else they shift them by noise.

    Table `minima`: a row a budget with flops, sizes, params, tokens, loss and whether it was used.
    """
    points = loss_points(records, law=NAME)
    found = budgets(points)
    need(NAME, {f"compute budgets with {FEWEST_SIZES} sizes": (len(found), FEWEST_BUDGETS)})
    own = _minima(found, Samples.weighted(np.ones((1, len(points.loss)))))
    replicates = _minima(found, _samples(points, found, draws, seed))
    alive = np.isfinite(replicates.log_params).mean(axis=0)
    inside = np.isfinite(own.log_params[0]) & (alive > SURVIVING)
    need(NAME, {"compute budgets with their minimum between the sizes": (int(inside.sum()), FEWEST_BUDGETS)})
    log_flops, weights = np.log([budget.flops for budget in found]), np.tile(inside, (2, 1)).astype(float)
    values = {name: float(column[0]) for name, column in lines(log_flops, own, weights).items()}
    drawn = lines(log_flops, replicates, weights)
    kept = np.isfinite(drawn["a"]) & np.isfinite(drawn["b"])
    drawn = {name: column[kept] for name, column in drawn.items()}
    parameters = estimates(values, drawn, confidence=confidence, dof=float(max(inside.sum() - 2, 1)))
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


def _samples(points: LossPoints, found: Sequence[Budget], draws: int, seed: int) -> Samples:
    if all(budget.measured for budget in found):
        return Samples.weighted(replicate_weights(points.units, draws, seed))
    shifts = shifted_samples(points, draws, seed)
    return Samples(weights=np.ones_like(shifts), shifts=shifts)


def _minima(found: Sequence[Budget], samples: Samples) -> Minima:
    """Every budget's vertex in each sample of the points."""
    logs = []
    for budget in found:
        rows = _near_lowest(budget)
        weights, shifts = (column[:, budget.points[rows]].mean(axis=2) for column in (samples.weights, samples.shifts))
        losses = budget.loss[rows] * np.exp(shifts)
        log_params, lowest = _vertex(np.log(budget.params[rows]), losses, weights)
        log_tokens, _ = _vertex(np.log(budget.tokens[rows]), losses, weights)
        logs.append(np.where(np.isfinite(log_params + log_tokens), [log_params, log_tokens, np.log(lowest)], np.nan))
    log_params, log_tokens, log_loss = np.stack(logs, axis=2)
    return Minima(log_params=log_params, log_tokens=log_tokens, log_loss=log_loss)


def _near_lowest(budget: Budget) -> np.ndarray:
    """Sizes within WINDOW of the lowest, or the SOUND_SIZES nearest."""
    distance = np.abs(np.log(budget.params / budget.params[np.argmin(budget.loss)]))
    reach = max(np.log(WINDOW), np.sort(distance)[:SOUND_SIZES][-1])
    return np.flatnonzero(distance <= reach)


def _vertex(x: Floats, y: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Where weighted parabolas of y (draws, points) in x are lowest and how low; NaN where not between the x."""
    middle = (x.max() + x.min()) / 2
    offset = x - middle
    powers = np.stack([np.ones_like(x), offset, offset**2], axis=1)
    gram = np.einsum("di,ij,ik->djk", weights, powers, powers)
    enough = (weights > 0).sum(axis=1) >= powers.shape[1]
    gram += RIDGE * np.eye(3) + ~enough[:, None, None] * np.eye(3)
    moment = np.einsum("di,ij,di->dj", weights, powers, y)
    c, b, a = np.linalg.solve(gram, moment[:, :, None])[:, :, 0].T
    convex = enough & (a > 0)
    vertex = np.where(convex, -b / (2 * np.where(convex, a, 1.0)), np.nan)
    inside = np.abs(vertex) < (x.max() - x.min()) / 2
    return np.where(inside, middle + vertex, np.nan), np.where(inside, c + b * vertex / 2, np.nan)


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
