"""Where the cells' optima lie, with their errors, whichever way they were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from orchestrator.laws.coordinates import tried
from orchestrator.laws.result import Floats
from orchestrator.laws.selection import CellRuns
from orchestrator.laws.surface import Surface
from orchestrator.laws.surface_form import Ints

# An optimum this close to the end of the tried range, as a part of it, is on the edge (search_spaces.axis).
EDGE_FRACTION = 0.05


class Way(StrEnum):
    """How the best settings of a cell were found."""

    SURFACE = "quadratic with pooled curvature"
    GRID = "Akima splines on its grid"  # learning rate and batch; beta2 by the surface


@dataclass(frozen=True, kw_only=True)
class Places:
    """The optima's coordinates, (cells, k), with `covariance` (cells * k, cells * k) cell by cell.

    `interior` (cells, k, 2) is the range outside of which an optimum is on an edge; `dof` (cells, k)
    are the degrees of freedom of its error, `way` says how each cell's were found.
    """

    centre: Floats
    covariance: Floats
    interior: Floats
    dof: Floats
    way: tuple[Way, ...]

    def between(self, first: int, second: int) -> Floats:
        """Covariance (cells, cells) of one coordinate of the centres with another, or itself."""
        cells, settings = self.centre.shape
        start = settings * np.arange(cells)
        return np.asarray(self.covariance[np.ix_(start + first, start + second)])

    @property
    def side(self) -> Ints:
        """-1 where a coordinate lies below its interior, +1 above, else 0; (cells, k)."""
        low, high = self.interior[..., 0], self.interior[..., 1]
        return np.asarray(np.where(self.centre < low, -1, np.where(self.centre > high, 1, 0)))

    def errors(self, draws: int, rng: np.random.Generator) -> Floats:
        """Joint errors of the coordinates, (draws, cells, k)."""
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.clip(values, 0.0, None))
        normal = rng.standard_normal((draws, self.centre.size))
        return np.asarray((normal @ root.T).reshape(draws, *self.centre.shape))


def surface_places(cells: Sequence[CellRuns], settings: Sequence[str], surface: Surface) -> Places:
    """The centres of the surface of these cells."""
    first = surface.floor.size
    return Places(
        centre=surface.centre,
        covariance=surface.covariance[first:, first:],
        interior=np.array([[_interior(cell, name) for name in settings] for cell in cells]),
        dof=np.full(surface.centre.shape, surface.dof),
        way=(Way.SURFACE,) * len(cells),
    )


def _interior(cell: CellRuns, setting: str) -> tuple[float, float]:
    places = tried(cell, setting)
    margin = EDGE_FRACTION * (max(places) - min(places))
    return min(places) + margin, max(places) - margin
