"""The law `joint`: power laws of the best settings, fitted to all runs at once.

    log L = m(N, D) + q(log settings - laws(N, D))

One robust fit instead of two stages (optima, then laws through them): a cell with few runs still says
where its loss is low. m is free in each cell or E + A / N^alpha + B / D^beta; q has one curvature for
all cells, constant in log L or growing with (L - E) / L, and is steeper towards high learning rates
(surface.py). Which of these, which window of excess loss and which terms of the laws are used is chosen
by leaving out one unit (a cell, or a scale where cells share runs) at a time. Intervals are the delete-one
jackknife's with Student's t (Efron 1981; MacKinnon & White 1985 for its use in small samples), so that
what the form gets wrong from cell to cell is in them. N and D are the table's; the form is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.laws.held_out import mean_excess
from orchestrator.laws.hyperparameters import (
    design_weaknesses,
    find_optima,
    held_out_excess,
    spaced_cells,
    valid_ranges,
)
from orchestrator.laws.joint_choice import Judged, choose
from orchestrator.laws.joint_estimates import QUANTITIES, name_parameters
from orchestrator.laws.joint_fit import JointData, curvature_of, joint_data
from orchestrator.laws.loss_points import need, too_wide
from orchestrator.laws.optimum import OptimumFit
from orchestrator.laws.power_law import LEAST_POINTS, Optima, identifiable_terms
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Estimate, FittedLaw, Status
from orchestrator.laws.selection import Selection

NAME = "joint"


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law. Raises MissingColumnError without a learning rate, FitError below LEAST_POINTS scales."""
    selection, optima = find_optima(records, confidence=confidence, seed=seed)
    return fit_with_optima(selection, optima, confidence=confidence, seed=seed, draws=draws)


def fit_with_optima(selection: Selection, optima: OptimumFit, *, confidence: float, seed: int, draws: int) -> FittedLaw:
    """Fit the law where the cells' own optima are known already; they are where it starts."""
    data = joint_data(optima, spaced_cells(optima))
    units = np.unique(data.unit).size
    need(NAME, {"scales, or token counts of one": (units, LEAST_POINTS)})
    best, tried = choose(data, [_terms(data, number) for number in range(len(data.settings))])
    named = name_parameters(data, best.fit, best.jackknife, confidence=confidence, draws=draws, seed=seed)
    constants = _constants(data, best)
    estimates = {name: found for each in named for name, found in each.estimates().items()}
    samples = {name: found for each in named for name, found in each.samples().items()}
    reasons = design_weaknesses(optima) + too_wide({n: e for n, e in estimates.items() if n in {"E", "alpha", "beta"}})
    return FittedLaw(
        name=NAME,
        form=_form(data, best),
        parameters=estimates | {name: Estimate(value=value) for name, value in constants.items()},
        draws=samples | {name: np.full(draws, value) for name, value in constants.items()},
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid=valid_ranges(optima),
        runs_used=optima.runs,
        runs_excluded=selection.excluded,
        tables={
            "held_out_regret": _regrets(data, best),
            "curvature": _curvature_rows(data, best),
            "forms": [_form_row(each, best) for each in tried],
        },
    )


def preferred(law: FittedLaw) -> bool:
    """Whether its settings cost less in cells it had not seen than those of the law `hyperparameters`."""
    return any(row["law"] == NAME and row["preferred"] for row in law.tables.get("held_out_regret", ()))


def _terms(data: JointData, setting: int) -> tuple[str, ...]:
    """The sizes whose exponents the cells can tell apart for a setting."""
    optima, kept = data.optima, data.cells
    known = Optima(
        log_params=data.sizes.log_params,
        log_tokens=data.sizes.log_tokens,
        value=optima.places.centre[kept, setting],
        covariance=np.zeros((kept.size, kept.size)),
        scale=np.array([optima.cells[int(number)].scale for number in kept]),
        edge=optima.places.side[kept, setting],
        pooled_scales=np.unique(data.unit).size < kept.size,
    )
    return identifiable_terms(known)


def _constants(data: JointData, best: Judged) -> dict[str, float]:
    """What is known of each setting's law without an interval."""
    found: dict[str, float] = {}
    for number, setting in enumerate(data.settings):
        found[f"{QUANTITIES[setting]}.scatter"] = _scatter(data, best, number)
        if len(_terms(data, number)) < 2:  # measured along one ratio: params and tokens are not told apart
            ratio = float(np.median(data.sizes.log_tokens - data.sizes.log_params))
            found[f"{QUANTITIES[setting]}.along_tokens_per_param"] = math.exp(ratio)
    return found


def _scatter(data: JointData, best: Judged, number: int) -> float:
    """Standard deviation of the cells' own optima around a law, in log units, their own errors taken off."""
    known = data.optima.places.side[data.cells, number] == 0
    away = (data.centres - best.fit.places(data.sizes))[known, number]
    own = np.diag(data.optima.places.between(number, number))[data.cells][known]
    return math.sqrt(max(float(np.mean(away**2 - own)), 0.0)) if known.any() else 0.0


def _regrets(data: JointData, best: Judged) -> list[dict[str, Any]]:
    """What each law's settings cost, on average, in cells that it had not seen: relative loss above their best."""
    other = held_out_excess(data.optima)
    seen = np.isfinite(other)
    ours, theirs = (
        math.expm1(mean_excess(above[seen], data.unit[seen])) if seen.any() else None for above in (best.above, other)
    )
    better = ours is None or theirs is None or ours <= theirs
    return [
        {"law": NAME, "held_out_regret": math.expm1(best.score) if ours is None else ours, "preferred": better},
        {"law": "hyperparameters", "held_out_regret": theirs, "preferred": not better},
    ]


def _curvature_rows(data: JointData, best: Judged) -> list[dict[str, Any]]:
    """As the law `hyperparameters` has them; beta2 by its half-life in steps."""
    matrix, skew = curvature_of(best.fit, len(data.settings))
    return [
        {"setting": name, "skew": skew if index == 0 else 0.0}
        | {other: float(matrix[index, place]) for place, other in enumerate(data.settings)}
        for index, name in enumerate(data.settings)
    ]


def _form_row(each: Judged, best: Judged) -> dict[str, Any]:
    form = each.fit.form
    return {
        "chosen": each is best,
        "held_out_regret": math.expm1(each.score),
        "window": form.window,
        "skewed": form.skewed,
        "curvature": "with (L - E) / L" if form.relative else "constant in log L",
        "m": "E + A / N^alpha + B / D^beta" if form.parametric else "free in each cell",
        "terms": [list(terms) for terms in form.terms],
    }


def _form(data: JointData, best: Judged) -> str:
    form = best.fit.form
    floor = "log(E + A / params^alpha + B / tokens^beta)" if form.parametric else "m(cell)"
    lines = [f"log loss = {floor} + q(settings)"]
    for setting, terms in zip(data.settings, form.terms, strict=True):
        name = QUANTITIES[setting]
        factors = "".join(f" * {term}^{name}.{term}_exponent" for term in terms)
        lines.append(f"{name} = {name}.coefficient{factors}")
    return "; ".join([*lines, *(["beta2 = 2^(-batch_tokens / beta2_half_life)"] if "beta2" in data.settings else [])])
