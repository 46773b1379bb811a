"""The law `hyperparameters`: power laws of learning rate, batch and beta2 through the cells' optima.

Porian et al. 2024 (section 4) and Step Law (Li et al. 2025), with the errors of the optima carried on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from orchestrator.laws.held_out import excess
from orchestrator.laws.optimum import Edge, OptimumFit, fit_optima
from orchestrator.laws.places import Way
from orchestrator.laws.power_law import LEAST_POINTS, Optima, PowerLaw, fit_power_law, identifiable_terms
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Estimate, FittedLaw, Floats, Status
from orchestrator.laws.selection import SAME_COUNT, Selection, group_cells, present, select, share_runs
from orchestrator.laws.surface_form import Ints
from orchestrator.laws.targets import Target, steps_place, targets

NAME = "hyperparameters"
COLUMNS = ("params", "tokens", "loss", "learning_rate")
# Readings of one run closer than this factor in tokens add nothing to a law.
SPACING = 2.0
# Readings earlier than this part of a scale's longest horizon only serve the loss laws. A guess.
EARLIEST = 1 / 16
# Below these a law is weak: with four scales an exponent's 95 % interval is 4.3 standard errors wide.
ENOUGH_SCALES = 5
MOST_EDGES = 1 / 3


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    target: Target
    data: Optima
    law: PowerLaw


@dataclass(frozen=True, kw_only=True)
class _Laws:
    """The laws of all settings through optima that were found in one way, each setting's best form first."""

    optima: OptimumFit
    fits: dict[str, list[_Fitted]]

    @property
    def rank(self) -> tuple[int, float]:
        """How many settings have no law, then the squared errors of the others' held-out cells."""
        squares = [forms[0].law.held_out ** 2 for forms in self.fits.values() if forms]
        return len(self.fits) - len(squares), math.fsum(squares)


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the optima of all cells, then the laws through them.

    Raises MissingColumnError without a learning rate, FitError where no cell has an optimum.
    """
    selection, optima = find_optima(records, confidence=confidence, seed=seed)
    return fit_laws_through(selection, optima, confidence=confidence, seed=seed, draws=draws)


def find_optima(
    records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0
) -> tuple[Selection, OptimumFit]:
    """The points used, and the optimum of each cell that has enough runs."""
    optional = tuple(name for name in ("batch_tokens", "beta2") if present(records, name))
    selection = select(records, (*COLUMNS, *optional), law=NAME)
    return selection, fit_optima(group_cells(selection), confidence=confidence, seed=seed)


def fit_laws_through(
    selection: Selection, optima: OptimumFit, *, confidence: float, seed: int, draws: int
) -> FittedLaw:
    """Power laws through optima that were found; one run read in many cells counts once.

    Where optima were found in two ways, the way whose laws predict their held-out cells best stands.
    """
    rng = np.random.default_rng(seed)
    ways = [_fit_settings(way, draws, rng) for way in optima.by_each_way()]
    chosen = min(reversed(ways), key=lambda each: each.rank)  # the grid's where nothing tells them apart
    optima, fits = chosen.optima, chosen.fits
    fitted = [forms[0] for forms in fits.values() if forms]
    chance = rng.random(draws)
    parameters: dict[str, Estimate] = {}
    samples: dict[str, Floats] = {}
    for found in fitted:
        scattered = _coefficient_draws(found, draws, chance, rng)
        estimates, named = _named(found, scattered, confidence)
        parameters |= estimates
        samples |= named
    weaknesses = _weaknesses(optima, fits)
    return FittedLaw(
        name=NAME,
        form=_form(fitted),
        parameters=parameters,
        draws=samples,
        status=Status.FAILED if not fitted else Status.WEAK if weaknesses else Status.OK,
        reason="; ".join(weaknesses),
        confidence=confidence,
        valid=valid_ranges(optima),
        runs_used=optima.runs,
        runs_excluded=selection.excluded,
        tables={
            "optima": optima.rows(),
            "curvature": optima.curvature_rows(),
            "laws": [_law_row(form, forms[0]) for forms in fits.values() for form in forms],
            "other_optima": [row for each in ways if each is not chosen for row in each.optima.rows()],
            "ways": [row for each in ways for row in _way_rows(each, chosen)],
        },
    )


def held_out_excess(optima: OptimumFit) -> Floats:
    """Excess log loss in each spaced cell of the settings that laws without its unit give it, (cells,).

    NaN where some setting has no law.
    """
    kept = spaced_cells(optima)
    errors = np.zeros((1, kept.size, len(optima.settings)))
    places = np.full((kept.size, len(optima.settings)), np.nan)
    for number, setting in enumerate(optima.settings):
        for best in _fit_setting(optima, setting, kept, errors)[:1]:
            rows = np.searchsorted(kept, best.target.cells[best.law.used])
            places[rows, number] = best.law.predicted
            if setting == "beta2":
                places[:, number] = steps_place(optima, best.target.name, kept, places)
    return excess(optima, kept, places)


def _fit_settings(optima: OptimumFit, draws: int, rng: np.random.Generator) -> _Laws:
    kept = spaced_cells(optima)
    errors = optima.places.errors(draws, rng)[:, kept]
    return _Laws(
        optima=optima,
        fits={setting: _fit_setting(optima, setting, kept, errors) for setting in optima.settings},
    )


def spaced_cells(optima: OptimumFit) -> Ints:
    """Cells that enter laws of the settings: of each scale the longest, and shorter ones at least SPACING apart."""
    if not share_runs(optima.cells):
        return np.arange(len(optima.cells))
    kept: list[int] = []
    longest: dict[int, float] = {}
    nearest: dict[int, float] = {}
    for number in reversed(range(len(optima.cells))):
        cell = optima.cells[number]
        top = longest.setdefault(cell.scale, cell.tokens)
        far = cell.tokens * (1 - SAME_COUNT) <= nearest.get(cell.scale, math.inf) / SPACING
        if far and cell.tokens >= top * EARLIEST * (1 - SAME_COUNT):
            nearest[cell.scale] = cell.tokens
            kept.append(number)
    return np.array(kept[::-1])


def _fit_setting(optima: OptimumFit, setting: str, kept: Ints, errors: Floats) -> list[_Fitted]:
    """The law of a setting in each of its forms, the one that predicts held-out cells best first."""
    found = []
    for target in targets(optima, setting, kept, errors):
        cells = [optima.cells[number] for number in target.cells]
        data = Optima(
            log_params=np.log([cell.params for cell in cells]),
            log_tokens=np.log([cell.tokens for cell in cells]),
            value=target.value,
            covariance=target.covariance,
            scale=np.array([cell.scale for cell in cells], dtype=np.int64),
            edge=target.edge,
            pooled_scales=share_runs(cells),
        )
        law = fit_power_law(data)
        if law is not None:
            found.append(_Fitted(target=target, data=data, law=law))
    return sorted(found, key=lambda each: each.law.held_out)


def _coefficient_draws(found: _Fitted, draws: int, chance: Floats, rng: np.random.Generator) -> Floats:
    """Joint draws (draws, coefficients): new errors of the optima and of the law through the same fit."""
    law, scale = found.law, found.data.scale[found.law.used]
    numbers = np.unique(scale, return_inverse=True)[1]
    common = rng.standard_normal((draws, int(numbers.max()) + 1))[:, numbers]
    scatter = law.scatter * math.sqrt(0.5) * (common + rng.standard_normal((draws, scale.size)))
    errors = (found.target.errors[:, law.used] + scatter) @ law.weights.T
    widening = np.sqrt(law.inflation * law.dof / stats.chi2.ppf(chance, law.dof))
    return np.asarray(law.coefficients + errors * widening[:, None])


def _named(found: _Fitted, scattered: Floats, confidence: float) -> tuple[dict[str, Estimate], dict[str, Floats]]:
    law, name = found.law, found.target.name
    quantile = float(stats.t.ppf((1 + confidence) / 2, law.dof))
    stderr = np.sqrt(np.diag(law.covariance))
    estimates = {f"{name}.coefficient": _exponential(law.coefficients[0], stderr[0], quantile)}
    samples = {f"{name}.coefficient": np.exp(np.clip(scattered[:, 0], -700, 700))}
    for index, term in enumerate(law.terms, start=1):
        value, error = float(law.coefficients[index]), float(stderr[index])
        key = f"{name}.{term}_exponent"
        estimates[key] = Estimate(
            value=value, low=value - quantile * error, high=value + quantile * error, stderr=error
        )
        samples[key] = scattered[:, index]
    constants = {f"{name}.scatter": law.scatter}
    line = _line(found)
    if line is not None:
        constants[f"{name}.along_tokens_per_param"] = line
    estimates |= {key: Estimate(value=value) for key, value in constants.items()}
    samples |= {key: np.full(scattered.shape[0], value) for key, value in constants.items()}
    return estimates, samples


def _exponential(place: float, stderr: float, quantile: float) -> Estimate:
    low, high = np.exp(np.clip([place - quantile * stderr, place + quantile * stderr], -700, 700))
    value = math.exp(place)
    return Estimate(value=value, low=float(low), high=float(high), stderr=value * float(stderr))


def _line(found: _Fitted) -> float | None:
    """The tokens_per_param along which the law was measured, where params and tokens are not told apart."""
    if len(identifiable_terms(found.data)) == 2:
        return None
    ratio = found.data.log_tokens - found.data.log_params
    return math.exp(float(np.median(ratio)))


def _form(fitted: Sequence[_Fitted]) -> str:
    lines = []
    for found in fitted:
        name = found.target.name
        factors = "".join(f" * {term}^{name}.{term}_exponent" for term in found.law.terms)
        line = _line(found)
        where = "" if line is None else f" along tokens_per_param = {line:.3g}"
        lines.append(f"{name} = {name}.coefficient{factors}{where}")
        if name == "beta2_half_life":
            lines.append("beta2 = 2^(-batch_tokens / beta2_half_life)")
    return "; ".join(lines)


def _weaknesses(optima: OptimumFit, fits: dict[str, list[_Fitted]]) -> list[str]:
    words = design_weaknesses(optima)
    for setting, forms in fits.items():
        if not forms:
            words.append(f"{setting}: optima inside the tried range at fewer than {LEAST_POINTS} scales; no law")
    return words


def design_weaknesses(optima: OptimumFit) -> list[str]:
    """Why no law through these optima is to be trusted: flat settings, few scales, optima on edges."""
    words = [f"{name} made no difference within its tried range" for name in optima.flat]
    scales = len({cell.scale for cell in optima.cells})
    if scales < ENOUGH_SCALES:
        words.append(f"{scales} scale{'s' * (scales > 1)}; {ENOUGH_SCALES} or more are wanted")
    for setting in optima.settings:
        on_edge = sum(isinstance(optimum.settings[setting], Edge) for optimum in optima.optima)
        if on_edge > MOST_EDGES * len(optima.optima):
            words.append(f"{setting}: {on_edge} of {len(optima.optima)} optima lie on an edge of what was tried")
    return words


def valid_ranges(optima: OptimumFit) -> dict[str, tuple[float, float]]:
    """Ranges of the cells' sizes and of the runs' settings."""
    values: dict[str, list[float]] = {
        "params": [cell.params for cell in optima.cells],
        "tokens": [cell.tokens for cell in optima.cells],
        "tokens_per_param": [cell.tokens / cell.params for cell in optima.cells],
    }
    for column in ("flops", *optima.settings):
        found = [getattr(run, column) for cell in optima.cells for run in cell.runs]
        values[column] = [value for value in found if value is not None]
    return {name: (min(column), max(column)) for name, column in values.items() if column}


def _law_row(found: _Fitted, chosen: _Fitted) -> dict[str, Any]:
    return {
        "law": found.target.name,
        "chosen": found is chosen,
        "terms": list(found.law.terms),
        "cells": int(found.law.used.size),
        "edges": int((found.data.edge != 0).sum()),
        "scatter": found.law.scatter,
        "held_out_error": found.law.held_out,
        "dof": found.law.dof,
    }


def _way_rows(laws: _Laws, chosen: _Laws) -> list[dict[str, Any]]:
    """A row a setting: how many of its optima were found, and how well its law predicts held-out ones."""
    way = Way.GRID if Way.GRID in laws.optima.places.way else Way.SURFACE
    return [
        {
            "way": str(way),
            "chosen": laws is chosen,
            "setting": setting,
            "cells_on_grids": laws.optima.places.way.count(Way.GRID),
            "edges": sum(isinstance(optimum.settings[setting], Edge) for optimum in laws.optima.optima),
            "held_out_error": forms[0].law.held_out if forms else None,
        }
        for setting, forms in laws.fits.items()
    ]
