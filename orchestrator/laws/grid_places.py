"""Optima of the cells that were measured on a grid, by a bootstrap of the noise.

The optimum is the median of the copies with noise added, as in Porian's isoFLOP minima: on planted grids
it lies up to a third nearer to the truth than the losses' own lowest point. Its error is their spread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from orchestrator.laws.grid import AXES, Grid, grid_of
from orchestrator.laws.places import Places, Way
from orchestrator.laws.replicates import Noise
from orchestrator.laws.resample import unit_indices
from orchestrator.laws.result import Floats
from orchestrator.laws.selection import CellRuns

REPLICATES = 200  # the standard errors are then known to 5 %
# What a spline gets wrong of a valley's lowest point without noise, in gaps between two tried values.
# Measured with values a factor of 2 apart: 0.02 in a parabola, 0.08 at a skew of 0.8, 0.11 at 1.2.
SPLINE_ERROR = 0.08


def grids_of(cells: Sequence[CellRuns], settings: Sequence[str]) -> Mapping[int, Grid]:
    """The grids of the cells that have one, by number; none where learning rate or batch is not fitted."""
    if not set(AXES) <= set(settings):
        return {}
    found = ((number, grid_of(cell)) for number, cell in enumerate(cells))
    return {number: grid for number, grid in found if grid is not None}


def with_grids(
    places: Places, cells: Sequence[CellRuns], settings: Sequence[str], *, noise: Noise, seed: int
) -> Places | None:
    """The places with learning rate and batch of the cells on grids found on them; None without grids."""
    grids = grids_of(cells, settings)
    if not grids:
        return None
    best = _best(grids, cells, noise, seed)
    gaps = np.concatenate([grid.gaps for grid in grids.values()])
    at = np.array([len(settings) * number + settings.index(name) for number in grids for name in AXES])
    centre, covariance = places.centre.copy(), places.covariance.copy()
    interior, dof = places.interior.copy(), places.dof.copy()
    centre.flat[at], dof.flat[at] = np.median(best, axis=0).ravel(), noise.dof
    interior.reshape(-1, 2)[at] = np.concatenate([grid.interior for grid in grids.values()])
    covariance[at] = covariance[:, at] = 0.0
    covariance[np.ix_(at, at)] = np.cov(best.reshape(REPLICATES, -1).T) + np.diag((SPLINE_ERROR * gaps) ** 2)
    way = tuple(Way.GRID if number in grids else old for number, old in enumerate(places.way))
    return replace(places, centre=centre, covariance=covariance, interior=interior, dof=dof, way=way)


def _best(grids: Mapping[int, Grid], cells: Sequence[CellRuns], noise: Noise, seed: int) -> Floats:
    """Best coordinates (REPLICATES, grids, axes) with noise added; a run's is one in all its cells."""
    rng = np.random.default_rng(seed)
    chosen = [cells[number] for number in grids]
    counts = [len(cell.runs) for cell in chosen]
    runs = unit_indices([run.run_id for cell in chosen for run in cell.runs])
    log_loss = np.log([run.loss or math.nan for cell in chosen for run in cell.runs])[:, None]
    copies = log_loss + noise.sample(runs, REPLICATES, rng)
    parts = np.split(copies, np.cumsum(counts)[:-1])
    return np.stack([grid.best(part) for grid, part in zip(grids.values(), parts, strict=True)], axis=1)
