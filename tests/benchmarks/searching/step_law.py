"""Step Law's published grids as surfaces to search (Li et al. 2025, arXiv:2503.04715)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.interpolate import RBFInterpolator
from searching.surface import Cell, Settings

TABLE = Path(__file__).parents[4] / "shared" / "data" / "steplaw_dense.csv"
SETTINGS = ("learning_rate", "batch_tokens")
# How the surface is fixed: beyond this log loss above a cell's minimum the grids only say "far too high",
# the smoothing is that of the thin-plate spline, and the best is that of a grid of so many levels an axis.
CLIP = 0.12
SMOOTHING = 0.5
LEVELS = 61


@dataclass(frozen=True, kw_only=True)
class GridPoint:
    """One published run."""

    learning_rate: float
    batch_tokens: float
    loss: float

    @property
    def settings(self) -> Settings:
        """The settings by name."""
        return {name: getattr(self, name) for name in SETTINGS}


class _CellSurface:
    """A spline of log loss over log2 of the settings; points outside the grid are moved to its edge."""

    def __init__(self, points: Sequence[GridPoint]) -> None:
        places = np.log2([[point.learning_rate, point.batch_tokens] for point in points])
        log_loss = np.log([point.loss for point in points])
        self._low, self._high = places.min(axis=0), places.max(axis=0)
        clipped = np.minimum(log_loss, log_loss.min() + CLIP)
        self._spline = RBFInterpolator(places - self._low, clipped, smoothing=SMOOTHING)
        axes = [np.linspace(0, side, LEVELS) for side in self._high - self._low]
        self.best = float(self._spline(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)).min())

    def log_loss(self, settings: Settings) -> float:
        place = np.log2([settings[name] for name in SETTINGS])
        return float(self._spline((np.clip(place, self._low, self._high) - self._low)[None])[0])


class StepLawSurface:
    """The 17 cells of the published table."""

    def __init__(self, points: dict[tuple[float, float], list[GridPoint]]) -> None:
        self.grids = {size: tuple(points[size]) for size in sorted(points, key=lambda size: size[0] * size[1])}
        self._surfaces = {size: _CellSurface(grid) for size, grid in self.grids.items()}
        self.cells = tuple(
            Cell(params=size[0], tokens=size[1], ranges={name: _range(grid, name) for name in SETTINGS})
            for size, grid in self.grids.items()
        )

    def evaluate(self, params: float, tokens: float, settings: Settings) -> float:
        """Loss without noise; see Surface."""
        return float(np.exp(self._surfaces[params, tokens].log_loss(settings)))

    def regret(self, params: float, tokens: float, settings: Settings) -> float:
        """Relative loss above the cell's best; see Surface."""
        surface = self._surfaces[params, tokens]
        return float(np.expm1(surface.log_loss(settings) - surface.best))


@lru_cache(maxsize=1)
def read_step_law() -> StepLawSurface:
    """The surface of the published table. Raises FileNotFoundError where the table is not there."""
    points: dict[tuple[float, float], list[GridPoint]] = {}
    with TABLE.open() as table:
        for row in csv.DictReader(table):
            point = GridPoint(
                learning_rate=float(row["learning_rate"]),
                batch_tokens=float(row["batch_tokens"]),
                loss=float(row["loss_smooth"]),
            )
            points.setdefault((float(row["params"]), float(row["tokens"])), []).append(point)
    return StepLawSurface(points)


def _range(points: Sequence[GridPoint], name: str) -> tuple[float, float]:
    values = [point.settings[name] for point in points]
    return min(values), max(values)
