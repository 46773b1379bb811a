"""The law `isoflop-akima`: the best size at each compute as Porian et al. 2024 (arXiv:2406.19146) find it.

Step by step, as published: an Akima spline of log loss over log N at each compute budget, its lowest
point on a fine grid; the same again for many copies of the losses with seed noise added; copies whose
lowest point is the smallest or largest size are dropped, and with half of them the budget; the median
of the rest is the optimum, their spread (floored at a third of the sizes' spacing) its error; a
weighted power law through the optima, its intervals the percentiles of the copies' own laws. They hold the
truth as rarely as the assumed noise is smaller than the table's own: where that makes the interval of `a`
much wider, the law is weak and says how wide. Table `noise_rules` has the interval by the published rule,
by that rule as it was meant, and by the table's own noise. N
is what `params` counts and C what `flops` says: the paper's point is that both must count the output head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import chi2

from orchestrator.laws.akima_copies import GRID_POINTS, corrected_noise, noisy_minima, published_noise, shifted_minima
from orchestrator.laws.allocation import FORM, Minima, centred, estimates, fitted, lines, optimal_params, optimal_tokens
from orchestrator.laws.budget_noise import budget_noise
from orchestrator.laws.budgets import FEWEST_BUDGETS, FEWEST_SIZES, Budget, budgets, too_few_sizes
from orchestrator.laws.design_bias import DesignBias
from orchestrator.laws.fitted_surface import fitted_surface
from orchestrator.laws.loss_points import loss_points, need, too_few_scales, too_wide
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Estimate, FittedLaw, Floats, Status

__all__ = ["COLUMNS", "FORM", "NAME", "fit", "optimal_params", "optimal_tokens"]

NAME = "isoflop-akima"
COLUMNS = ("params", "tokens", "loss")
SPREAD_FLOOR = 0.33  # least error of an optimum, in gaps between two sizes
CHANCE = 0.01  # the scatter of the minima is too large if chance makes so much more rarely than this. A guess
TOO_NARROW = 1.5  # ratio of two intervals from which on the narrower one is misleading. A guess
SURVIVING = 0.5  # a budget counts while so many of its copies have an inner minimum


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """The published steps under one rule of noise: the optima, their errors (2, budgets), and the power laws.

    `values` are the parameters, `drawn` those of each copy, `inside` the budgets that count.
    """

    medians: Minima
    errors: Floats
    inside: np.ndarray
    weights: Floats
    values: dict[str, float]
    drawn: dict[str, Floats]

    @classmethod
    def of(cls, found: Sequence[Budget], copies: Minima) -> Procedure:
        """The steps after the copies' minima. Raises FitError below 3 budgets with an inner minimum."""
        alive = np.isfinite(copies.log_params).mean(axis=0)
        inside = alive >= SURVIVING
        need(NAME, {"compute budgets with their minimum between the sizes": (int(inside.sum()), FEWEST_BUDGETS)})
        medians, errors = _medians(copies, inside), _errors(found, copies, alive)
        weights = np.where(inside, 1 / errors**2, 0.0)
        own = lines(_log_flops(found), medians, weights)
        return cls(
            medians=medians,
            errors=errors,
            inside=inside,
            weights=weights,
            values={name: float(column[0]) for name, column in own.items()},
            drawn=fitted(lines(_log_flops(found), copies, weights), law=NAME),
        )

    def a(self, confidence: float) -> Estimate:
        """The exponent with the percentiles of the copies' own."""
        return estimates(self.values, self.drawn, confidence=confidence, dof=None)["a"]


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law as published, and beside it with the table's own noise (budget_noise.py).

    Raises FitError below 3 budgets with an inner minimum.

    Tables: `minima`, a row a budget with flops, sizes, the median params, tokens and loss, their error,
    and whether it was used; `noise_rules`, `a` with its interval under each rule; `design_bias`.
    """
    points = loss_points(records, law=NAME)
    found = budgets(points)
    need(NAME, {f"compute budgets with {FEWEST_SIZES} sizes": (len(found), FEWEST_BUDGETS)})
    published = Procedure.of(found, noisy_minima(found, published_noise(found), draws=draws, seed=seed))
    corrected = Procedure.of(found, noisy_minima(found, corrected_noise(found), draws=draws, seed=seed))
    surface = fitted_surface(points)
    noise = budget_noise(points, found, surface, draws=draws, seed=seed)
    copies = shifted_minima(found, noise.shifts)
    drawn = centred(fitted(lines(_log_flops(found), copies, published.weights), law=NAME), published.values)
    measured = estimates(published.values, drawn, confidence=confidence, dof=noise.dof)["a"]
    parameters = estimates(published.values, published.drawn, confidence=confidence, dof=None)
    bias = DesignBias.of(_on_surface(budgets(replace(points, loss=surface.loss(points))), published), surface)
    rules = {"published": parameters["a"], "corrected": corrected.a(confidence), "measured": measured}
    used = [budget for budget, inside in zip(found, published.inside, strict=True) if inside]
    reasons = too_few_scales(points.scales) + too_few_sizes(used)
    reasons += too_wide({name: parameters[name] for name in ("a", "b")}) + _scattered(found, published, copies)
    reasons += _narrow(parameters["a"], measured)
    return FittedLaw(
        name=NAME,
        form=FORM,
        parameters=parameters,
        draws=published.drawn,
        status=Status.WEAK if reasons or bias.weak else Status.OK,
        reason="; ".join([*reasons, *bias.notes(parameters["a"])]),
        confidence=confidence,
        valid=points.valid,
        runs_used=points.runs,
        runs_excluded=points.excluded,
        tables={
            "minima": _table(found, published),
            "noise_rules": _rules(rules),
            "design_bias": bias.rows(parameters["a"]),
        },
    )


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


def _log_flops(found: Sequence[Budget]) -> Floats:
    return np.log([budget.flops for budget in found])


def _on_surface(found: Sequence[Budget], published: Procedure) -> float:
    """What the law makes of losses without noise for `a`."""
    exact = shifted_minima(found, np.zeros((1, 1 + max(int(budget.points.max()) for budget in found))))
    return float(lines(_log_flops(found), exact, published.weights)["a"][0])


def _scattered(found: Sequence[Budget], published: Procedure, copies: Minima) -> list[str]:
    """A reason where the minima lie further from the law than the table's own noise allows."""
    inside = published.inside
    errors = _errors(found, copies, np.isfinite(copies.log_params).mean(axis=0))[0, inside]
    line = np.log(optimal_params(published.values, np.exp(_log_flops(found))))
    squares = float((((published.medians.log_params[0] - line)[inside] / errors) ** 2).sum())
    free = int(inside.sum()) - 2
    if chi2.sf(squares, free) >= CHANCE:
        return []
    return [f"the minima scatter {np.sqrt(squares / free):.2g} times as much as noise explains: no power law"]


def _narrow(published: Estimate, measured: Estimate) -> list[str]:
    """A reason where the table's own noise makes the interval of `a` much wider than the published rule's."""
    ends = (published.low, published.high, measured.low, measured.high)
    low, high, wide_low, wide_high = (float("nan") if end is None else end for end in ends)
    if not wide_high - wide_low > TOO_NARROW * (high - low):
        return []
    honest = f"{wide_low:.3g} to {wide_high:.3g}"
    return [f"by the table's own noise the interval of a is {honest}: that of the published rule is too narrow"]


def _rules(rules: dict[str, Estimate]) -> list[dict[str, Any]]:
    return [{"rule": rule, "a": a.value, "low": a.low, "high": a.high, "stderr": a.stderr} for rule, a in rules.items()]


def _table(found: Sequence[Budget], published: Procedure) -> list[dict[str, Any]]:
    medians, errors, inside = published.medians, published.errors, published.inside
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
