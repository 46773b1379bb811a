"""Akima splines, many at once, and where they are lowest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import Akima1DInterpolator

from orchestrator.laws.result import Floats


@dataclass(frozen=True, kw_only=True)
class Lowest:
    """The lowest points of splines on a fine grid: `at` (draws,) numbers its points, `height` is how low."""

    grid: Floats
    at: npt.NDArray[np.intp]
    height: Floats

    @property
    def place(self) -> Floats:
        """Where each spline is lowest, (draws,)."""
        return np.asarray(self.grid[self.at])

    @property
    def inner(self) -> npt.NDArray[np.bool_]:
        """Whether that is between the ends of the grid, (draws,)."""
        return (self.at > 0) & (self.at < len(self.grid) - 1)


def splines(x: Floats, y: Floats, grid: Floats) -> Floats:
    """Splines through (x, y[:, draw]), x in any order, read on the grid: (grid, draws)."""
    order = np.argsort(x)
    return np.asarray(Akima1DInterpolator(x[order], y[order])(grid))


def lowest(x: Floats, y: Floats, *, points: int) -> Lowest:
    """The lowest points of splines through (x, y[:, draw]) among so many even steps from end to end."""
    grid = np.linspace(x.min(), x.max(), points)
    heights = splines(x, y, grid)
    at = np.argmin(heights, axis=0)
    return Lowest(grid=grid, at=at, height=np.asarray(heights[at, np.arange(y.shape[1])]))
