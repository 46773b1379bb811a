"""What the hyperparameter laws are fitted to: optima in the units of each law, with their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.optimum import Edge, OptimumFit, interior
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


def _edges(optima: OptimumFit, setting: str, kept: Ints) -> Ints:
    signs = {Edge.LOW: -1, Edge.HIGH: 1}
    found = [optima.optima[number].settings[setting] for number in kept]
    return np.array([signs[edge] if isinstance(edge, Edge) else 0 for edge in found])


def targets(optima: OptimumFit, setting: str, kept: Ints, errors: Floats) -> list[Target]:
    """What a law of a setting may be fitted to: itself; for beta2 its half-life in tokens, or 1 - beta2.

    `kept` numbers the cells that enter; `errors` (draws, kept, settings) are those of their coordinates.
    """
    index = optima.settings.index(setting)
    edge = _edges(optima, setting, kept)
    place = _clipped(optima, setting, kept)
    own = Target(
        name=setting,
        value=place,
        covariance=optima.surface.centre_covariance(index)[np.ix_(kept, kept)],
        edge=edge,
        errors=errors[:, :, index],
        cells=kept,
    )
    if setting != "beta2":
        return [own]
    return [_half_life(optima, own, errors), _one_minus(own)]


def _clipped(optima: OptimumFit, setting: str, kept: Ints) -> Floats:
    """Optima as coordinates; those on an edge as the bound that put them there."""
    index = optima.settings.index(setting)
    bounds = np.array([interior(optima.cells[number], setting) for number in kept])
    return np.asarray(np.clip(optima.surface.centre[kept, index], bounds[:, 0], bounds[:, 1]))


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
        batch = [np.median([math.log(run.batch_tokens or 1.0) for run in optima.cells[n].runs]) for n in steps.cells]
        value, covariance, noise = steps.value + np.array(batch), steps.covariance, steps.errors
        return Target(
            name="beta2_half_life", value=value, covariance=covariance, edge=steps.edge, errors=noise, cells=steps.cells
        )
    index = optima.settings.index("batch_tokens")
    rows = np.flatnonzero(_edges(optima, "batch_tokens", steps.cells) == 0)
    cells = steps.cells[rows]
    return Target(
        name="beta2_half_life",
        value=steps.value[rows] + optima.surface.centre[cells, index],
        covariance=_sum_covariance(optima, cells, index),
        edge=steps.edge[rows],
        errors=(steps.errors + errors[:, :, index])[:, rows],
        cells=cells,
    )


def _sum_covariance(optima: OptimumFit, cells: Ints, batch: int) -> Floats:
    """Covariance over cells of log half-life in steps plus log batch tokens."""
    count, settings = optima.surface.centre.shape
    first = count + settings * cells
    own, other = first + optima.settings.index("beta2"), first + batch
    full = optima.surface.covariance
    return np.asarray(
        full[np.ix_(own, own)] + full[np.ix_(other, other)] + full[np.ix_(own, other)] + full[np.ix_(other, own)]
    )
