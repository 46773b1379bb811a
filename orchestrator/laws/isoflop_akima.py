"""The law `isoflop-akima`: the best size at each compute as Porian et al. 2024 (arXiv:2406.19146) find it.

Step by step, as published: an Akima spline of log loss over log N at each compute budget, its lowest
point on a fine grid; the same again for many copies of the losses with seed noise added; copies whose
lowest point is the smallest or largest size are dropped, and with half of them the budget; the median
of the rest is the optimum, their spread (floored at a third of the sizes' spacing) its error; a
weighted power law through the optima, with the percentiles of the copies' own laws as intervals. N is
what `params` counts and C what `flops` says: the paper's point is that both must count the output head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import chi2

from orchestrator.laws.akima import lowest
from orchestrator.laws.allocation import FORM, Minima, estimates, lines, optimal_params, optimal_tokens
from orchestrator.laws.budgets import FEWEST_BUDGETS, FEWEST_SIZES, Budget, budgets, too_few_sizes
from orchestrator.laws.loss_points import loss_points, need, too_few_scales, too_wide
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import FittedLaw, Floats, Status

__all__ = ["COLUMNS", "FORM", "NAME", "fit", "optimal_params", "optimal_tokens"]

NAME = "isoflop-akima"
COLUMNS = ("params", "tokens", "loss")
# Standard deviation of the loss over seeds, nats per token: what the published code uses at every loss
# (it compares log losses with thresholds that were meant for losses).
SEED_NOISE = 0.002
GRID_POINTS = 25  # points of the fine grid per gap between two sizes
SPREAD_FLOOR = 0.33  # least error of an optimum, in gaps between two sizes
CHANCE = 0.01  # the scatter of the minima is too large if chance makes so much more rarely than this. A guess
SURVIVING = 0.5  # a budget counts while so many of its copies have an inner minimum


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law; draws are copies with seed noise. Raises FitError below 3 budgets with an inner minimum.

    Table `minima`: a row a budget with flops, sizes, the median params, tokens and loss, their error,
    and whether it was used.
    """
    points = loss_points(records, law=NAME)
    found = budgets(points)
    need(NAME, {f"compute budgets with {FEWEST_SIZES} sizes": (len(found), FEWEST_BUDGETS)})
    copies = noisy_minima(found, draws=draws, seed=seed)
    alive = np.isfinite(copies.log_params).mean(axis=0)
    inside = alive >= SURVIVING
    need(NAME, {"compute budgets with their minimum between the sizes": (int(inside.sum()), FEWEST_BUDGETS)})
    medians = _medians(copies, inside)
    log_flops = np.log([budget.flops for budget in found])
    errors = _errors(found, copies, alive)
    weights = np.where(inside, 1 / errors**2, 0.0)
    values = {name: float(column[0]) for name, column in lines(log_flops, medians, weights).items()}
    drawn = lines(log_flops, copies, weights)
    parameters = estimates(values, drawn, confidence=confidence, dof=None)
    reasons = too_few_scales(points.scales) + too_few_sizes([b for b, used in zip(found, inside, strict=True) if used])
    reasons += too_wide({name: parameters[name] for name in ("a", "b")})
    reasons += _scattered(optimal_params(values, np.exp(log_flops)), medians.log_params[0], errors[0])
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
        tables={"minima": _table(found, medians, errors, inside)},
    )


def noisy_minima(found: Sequence[Budget], *, draws: int, seed: int) -> Minima:
    """Lowest points of the splines through the losses with SEED_NOISE added, all copies at once."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Floats]] = {"log_params": [], "log_tokens": [], "log_loss": []}
    for budget in found:
        noise = SEED_NOISE * rng.standard_normal((len(budget.loss), draws))
        log_loss = np.log(budget.loss[:, None] + noise)
        log_params, height = akima_minimum(np.log(budget.params), log_loss)
        log_tokens, _ = akima_minimum(np.log(budget.tokens), log_loss)
        columns["log_params"].append(log_params)
        columns["log_tokens"].append(log_tokens)
        columns["log_loss"].append(height)
    return Minima(**{name: np.stack(column, axis=1) for name, column in columns.items()})


def akima_minimum(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Where splines through (x, y[:, draw]) are lowest and how low, (draws,); NaN where that is at an end."""
    found = lowest(x, y, points=GRID_POINTS * (len(x) - 1))
    return np.where(found.inner, found.place, np.nan), np.where(found.inner, found.height, np.nan)


def _medians(copies: Minima, inside: np.ndarray) -> Minima:
    def median(column: Floats) -> Floats:
        found = np.full((1, column.shape[1]), np.nan)
        found[0, inside] = np.nanmedian(column[:, inside], axis=0)
        return found

    return Minima(
        log_params=median(copies.log_params),
        log_tokens=median(copies.log_tokens),
        log_loss=median(copies.log_loss),
    )


def _errors(found: Sequence[Budget], copies: Minima, alive: Floats) -> Floats:
    """Errors (2, budgets) of log N* and log D*: the copies' spread, floored, larger where copies were lost."""
    errors = np.full((2, len(found)), np.inf)
    for at, budget in enumerate(found):
        if alive[at] < SURVIVING:
            continue
        for row, (sizes, column) in enumerate(((budget.params, copies.log_params), (budget.tokens, copies.log_tokens))):
            gap = GRID_POINTS * np.ptp(np.log(sizes)) / (GRID_POINTS * (len(sizes) - 1) - 1)
            errors[row, at] = max(float(np.nanstd(column[:, at])), SPREAD_FLOOR * gap) / alive[at]
    return errors


def _scattered(line: Floats, log_params: Floats, errors: Floats) -> list[str]:
    """A reason where the minima lie further from the law than their errors allow."""
    inside = np.isfinite(log_params)
    squares = float((((log_params - np.log(line))[inside] / errors[inside]) ** 2).sum())
    free = int(inside.sum()) - 2
    if chi2.sf(squares, free) >= CHANCE:
        return []
    factor = np.sqrt(squares / free)
    return [f"the minima scatter {factor:.2g} times as much as seed noise of {SEED_NOISE:g} explains: trust `isoflop`"]


def _table(found: Sequence[Budget], medians: Minima, errors: Floats, inside: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "flops": budget.flops,
            "sizes": len(budget.params),
            "params": float(np.exp(medians.log_params[0, at])),
            "log_params_stderr": float(errors[0, at]),
            "tokens": float(np.exp(medians.log_tokens[0, at])),
            "loss": float(np.exp(medians.log_loss[0, at])),
            "used": bool(inside[at]),
            "reason": "" if inside[at] else "its minimum lies at the edge of the sizes in most copies",
        }
        for at, budget in enumerate(found)
    ]
