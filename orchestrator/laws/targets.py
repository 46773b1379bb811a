"""What the hyperparameter laws are fitted to: optima in the units of each law, with their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.optimum import OptimumFit
from orchestrator.laws.result import Floats
from orchestrator.laws.surface_form import Ints


@dataclass(frozen=True, kw_only=True)
class Target:
    """One law to fit: the optima's logarithms are `value` and their errors `errors` (draws, cells)."""

    name: str
    value: Floats
    covariance: Floats
    edge: Ints
    errors: Floats
    cells: Ints  # which cells of the fit the rows are


def targets(optima: OptimumFit, setting: str, kept: Ints, errors: Floats) -> list[Target]:
    """What a law of a setting may be fitted to: itself; for beta2 its half-life in tokens, or 1 - beta2.

    `kept` numbers the cells that enter; `errors` (draws, kept, settings) are those of their coordinates.
    """
    index = optima.settings.index(setting)
    places = optima.places
    low, high = places.interior[kept, index].T
    own = Target(
        name=setting,
        value=np.clip(places.centre[kept, index], low, high),  # on an edge: the bound that put it there
        covariance=places.between(index, index)[np.ix_(kept, kept)],
        edge=places.side[kept, index],
        errors=errors[:, :, index],
        cells=kept,
    )
    if setting != "beta2":
        return [own]
    return [_half_life(optima, own, errors), _one_minus(own)]


def steps_place(optima: OptimumFit, law: str, cells: Ints, places: Floats) -> Floats:
    """The last column of `places` (cells, settings), as the law named has it, in log half-lives in steps."""
    value = places[:, -1]
    if law == "one_minus_beta2":
        return np.log(-math.log(2) / np.log1p(-np.minimum(np.exp(value), 1 - 1e-12)))
    known = "batch_tokens" in optima.settings
    batch = places[:, optima.settings.index("batch_tokens")] if known else _usual_batch(optima, cells)
    return np.asarray(value - batch)


def _one_minus(steps: Target) -> Target:
    """log(1 - beta2) from the logarithm of the half-life in steps, errors by its slope."""
    half_life = np.exp(steps.value)
    forgotten = -np.expm1(-math.log(2) / half_life)
    slope = -math.log(2) / half_life * (1 - forgotten) / forgotten
    return Target(
        name="one_minus_beta2",
        value=np.log(forgotten),
        covariance=steps.covariance * np.outer(slope, slope),
        edge=-steps.edge,
        errors=steps.errors * slope,
        cells=steps.cells,
    )


def _half_life(optima: OptimumFit, steps: Target, errors: Floats) -> Target:
    """The half-life in tokens: steps times the cell's best batch (its usual one where batch was not fitted)."""
    if "batch_tokens" not in optima.settings:
        value, covariance, noise = steps.value + _usual_batch(optima, steps.cells), steps.covariance, steps.errors
        return Target(
            name="beta2_half_life", value=value, covariance=covariance, edge=steps.edge, errors=noise, cells=steps.cells
        )
    index = optima.settings.index("batch_tokens")
    rows = np.flatnonzero(optima.places.side[steps.cells, index] == 0)
    cells = steps.cells[rows]
    return Target(
        name="beta2_half_life",
        value=steps.value[rows] + optima.places.centre[cells, index],
        covariance=_sum_covariance(optima, cells, index),
        edge=steps.edge[rows],
        errors=(steps.errors + errors[:, :, index])[:, rows],
        cells=cells,
    )


def _usual_batch(optima: OptimumFit, cells: Ints) -> Floats:
    """Log of the batch that a cell's runs usually had, where it is no setting."""
    return np.array([np.median([math.log(run.batch_tokens or 1.0) for run in optima.cells[n].runs]) for n in cells])


def _sum_covariance(optima: OptimumFit, cells: Ints, batch: int) -> Floats:
    """Covariance over cells of log half-life in steps plus log batch tokens."""
    beta2, places = optima.settings.index("beta2"), optima.places
    pairs = [(beta2, beta2), (batch, batch), (beta2, batch), (batch, beta2)]
    return np.asarray(sum(places.between(*pair)[np.ix_(cells, cells)] for pair in pairs))
