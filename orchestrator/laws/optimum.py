"""The best settings of each cell, with intervals, or the edge of the tried range that they lie on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from scipy import stats

from orchestrator.laws.coordinates import SETTINGS, coordinate, from_coordinate, tried
from orchestrator.laws.grid_places import with_grids
from orchestrator.laws.places import Places, Way, surface_places
from orchestrator.laws.records import RunRecord
from orchestrator.laws.replicates import Noise, noise_of
from orchestrator.laws.resample import unit_indices
from orchestrator.laws.result import Estimate
from orchestrator.laws.selection import CellRuns
from orchestrator.laws.surface import Surface, fit_surface
from orchestrator.laws.surface_form import Observations
from search_spaces.errors import FitError

# Runs further above their cell's best than this, in log loss, say little about the optimum (Step Law's
# surfaces are curved beyond 5-10 %); the best runs always stay, so many times the cell's parameters.
WINDOW = 0.05
WINDOW_RUNS = 3
# A setting is fitted where half of the cells tried at least so many of its values, and one of them so many: its
# curvature, which all share, is known from there, and elsewhere what it costs is not taken for noise.
DISTINCT_VALUES, DISTINCT_SOMEWHERE = 2, 3
# A setting that explains less than this many times what chance does is flat: the loss may as well not
# depend on it. Planted sweeps of 6 scales and 16 runs: 0.7 to 2.7 where it does not, 5 and more where it
# does; twice that by chance where readings of one run share their error.
LEAST_EVIDENCE = 2.0


class Edge(StrEnum):
    """The optimum lies at or beyond this end of what was tried."""

    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """The best settings of one cell, by setting; a setting that was not fitted is absent.

    `loss` is the fitted loss at the optimum (at the tried settings nearest to it where it lies on an
    edge), never the luckiest run; `raw_minimum` is that run.
    """

    scale: int
    params: float
    tokens: float
    settings: Mapping[str, Estimate | Edge]
    loss: Estimate
    raw_minimum: float
    runs: int
    diverged: int
    way: Way


@dataclass(frozen=True, kw_only=True)
class OptimumFit:
    """Optima of the fitted cells, in the order of `cells`, and the surface and places that they come from.

    Coordinates are natural logarithms of learning rate, batch tokens and beta2's half-life in steps.
    `on_grids` are the places by the other way, None where no cell has a grid; `noise` is that of its
    bootstrap.
    """

    cells: tuple[CellRuns, ...]
    settings: tuple[str, ...]
    flat: tuple[str, ...]
    surface: Surface
    places: Places
    on_grids: Places | None
    noise: Noise
    confidence: float

    @cached_property
    def optima(self) -> tuple[Optimum, ...]:
        """The optimum of each cell."""
        return tuple(_optimum(self, number) for number in range(len(self.cells)))

    @property
    def runs(self) -> int:
        """Number of runs in the fitted cells."""
        return len({run.run_id for cell in self.cells for run in cell.runs})

    def by_each_way(self) -> tuple[OptimumFit, ...]:
        """The fit without its grids and, where there are any, with them."""
        return (self,) if self.on_grids is None else (self, replace(self, places=self.on_grids))

    @property
    def loss_common_stderr(self) -> float:
        """Standard error of log loss that all cells share: of the mean floor."""
        floors = self.surface.floor.size
        return math.sqrt(max(float(self.surface.covariance[:floors, :floors].mean()), 0.0))

    def rows(self) -> list[dict[str, Any]]:
        """One plain mapping a cell, for tables and plots."""
        common = {"loss_common_stderr": self.loss_common_stderr}
        return [_row(self, number) | common for number in range(len(self.optima))]

    def curvature_rows(self) -> list[dict[str, Any]]:
        """The pooled curvature of log loss per unit of log setting squared, one mapping a setting."""
        matrix = self.surface.curvature
        return [
            {"setting": name, "skew": self.surface.skew if index == 0 else 0.0}
            | {other: float(matrix[index, place]) for place, other in enumerate(self.settings)}
            for index, name in enumerate(self.settings)
        ]


def fit_optima(cells: Sequence[CellRuns], *, confidence: float, seed: int = 0) -> OptimumFit:
    """Fit the surface over all cells with enough runs; settings that do not matter are left out as flat.

    Where cells have a grid, their best learning rate and batch are found on it too. The loss, which
    averages over a cell's runs, and beta2 are the surface's either way.

    Raises FitError where no cell has enough runs, or no setting was varied or matters.
    """
    settings = _varied(cells)
    flat: list[str] = []
    while settings:
        enough = _with_enough_runs(cells, settings)
        data = _observations(enough, settings)
        surface = fit_surface(data)
        worst = _flattest(data, settings, surface)
        if worst is None:
            noise = noise_of(enough, data, surface)
            places = surface_places(enough, settings, surface)
            return OptimumFit(
                cells=enough,
                settings=settings,
                flat=tuple(flat),
                surface=surface,
                places=places,
                on_grids=with_grids(places, enough, settings, noise=noise, seed=seed),
                noise=noise,
                confidence=confidence,
            )
        flat.append(worst)
        settings = tuple(name for name in settings if name != worst)
    words = f"{', '.join(flat)} made no difference" if flat else "no setting was varied"
    wanted = f"{DISTINCT_VALUES} values or more in each cell, {DISTINCT_SOMEWHERE} in some"
    raise FitError(f"there is no optimum to fit: {words} (needed are {wanted})")


def _with_enough_runs(cells: Sequence[CellRuns], settings: tuple[str, ...]) -> tuple[CellRuns, ...]:
    needed = len(settings) + 2
    enough = tuple(cell for cell in cells if len(cell.runs) >= needed)
    if not enough:
        most = max((len(cell.runs) for cell in cells), default=0)
        raise FitError(
            f"no cell has enough runs for an optimum: the fullest has {most}, "
            f"and {len(settings)} settings need {needed}"
        )
    return enough


def _varied(cells: Sequence[CellRuns]) -> tuple[str, ...]:
    def often(setting: str) -> bool:
        counts = [len({getattr(run, setting) for run in cell.runs} - {None}) for cell in cells]
        return bool(counts) and float(np.median(counts)) >= DISTINCT_VALUES and max(counts) >= DISTINCT_SOMEWHERE

    return tuple(setting for setting in SETTINGS if often(setting))


def _observations(cells: Sequence[CellRuns], settings: tuple[str, ...]) -> Observations:
    kept = [(number, run) for number, cell in enumerate(cells) for run in _window(cell, settings)]
    return Observations(
        coordinates=np.array([[coordinate(run, name) for name in settings] for _, run in kept]),
        log_loss=np.array([math.log(run.loss or math.nan) for _, run in kept]),
        cell=np.array([number for number, _ in kept]),
        run=unit_indices([run.run_id for _, run in kept]),
    )


def _window(cell: CellRuns, settings: tuple[str, ...]) -> list[RunRecord]:
    """The runs near the cell's best, best first."""
    ranked = sorted(cell.runs, key=lambda run: (run.loss or math.inf, run.run_id))
    limit = cell.raw_minimum * math.exp(WINDOW)
    least = WINDOW_RUNS * (1 + len(settings))
    return [run for place, run in enumerate(ranked) if place < least or (run.loss or math.inf) <= limit]


def _flattest(data: Observations, settings: tuple[str, ...], surface: Surface) -> str | None:
    """The setting with the least evidence that the loss depends on it, where that is as good as none."""
    evidence = {name: surface.evidence(data, index) for index, name in enumerate(settings)}
    least = min(evidence, key=lambda name: evidence[name])
    return least if evidence[least] < LEAST_EVIDENCE * (1 + surface.shared) else None


def _optimum(fit: OptimumFit, number: int) -> Optimum:
    cell = fit.cells[number]
    return Optimum(
        scale=cell.scale,
        params=cell.params,
        tokens=cell.tokens,
        settings={name: _setting(fit, number, index) for index, name in enumerate(fit.settings)},
        loss=_loss(fit, number),
        raw_minimum=cell.raw_minimum,
        runs=len(cell.runs),
        diverged=len({run.run_id for run in cell.diverged}),
        way=fit.places.way[number],
    )


def _setting(fit: OptimumFit, number: int, index: int) -> Estimate | Edge:
    places = fit.places
    side = places.side[number, index]
    if side:
        return Edge.LOW if side < 0 else Edge.HIGH
    stderr = math.sqrt(places.between(index, index)[number, number])
    quantile = _quantile(fit.confidence, float(places.dof[number, index]))
    return _in_units(float(places.centre[number, index]), stderr, quantile, fit.settings[index])


def _quantile(confidence: float, dof: float) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, dof))


def _in_units(place: float, stderr: float, quantile: float, setting: str) -> Estimate:
    """An estimate in the setting's own units; its standard error by the slope of the coordinate."""
    value = from_coordinate(place, setting)
    nudged = from_coordinate(place + 1e-6, setting)
    return Estimate(
        value=value,
        low=from_coordinate(place - quantile * stderr, setting),
        high=from_coordinate(place + quantile * stderr, setting),
        stderr=abs(nudged - value) / 1e-6 * stderr,
    )


def _loss(fit: OptimumFit, number: int) -> Estimate:
    """The surface's floor; where its centre lies outside of what was tried, how low it is at the nearest."""
    surface, centre = fit.surface, fit.surface.centre[number]
    ranges = [tried(fit.cells[number], name) for name in fit.settings]
    nearest = np.array([min(max(at, min(places)), max(places)) for at, places in zip(centre, ranges, strict=True)])
    log_loss = float(surface.floor[number] + surface.excess(nearest - centre))
    stderr = float(surface.floor_stderr()[number])
    value, quantile = math.exp(log_loss), _quantile(fit.confidence, surface.dof)
    return Estimate(
        value=value,
        low=value * math.exp(-quantile * stderr),
        high=value * math.exp(quantile * stderr),
        stderr=value * stderr,
    )


def _row(fit: OptimumFit, number: int) -> dict[str, Any]:
    optimum = fit.optima[number]
    on_grid = optimum.way is Way.GRID
    row: dict[str, Any] = {
        "params": optimum.params,
        "tokens": optimum.tokens,
        "tokens_per_param": optimum.tokens / optimum.params,
    }
    for index, name in enumerate(fit.settings):
        found = optimum.settings[name]
        estimate = found if isinstance(found, Estimate) else None
        row |= {
            name: estimate.value if estimate else None,
            f"{name}_low": estimate.low if estimate else None,
            f"{name}_high": estimate.high if estimate else None,
            f"{name}_edge": None if estimate else str(found),
            f"{name}_centre": from_coordinate(float(fit.places.centre[number, index]), name),
        }
    return row | {
        "loss": optimum.loss.value,
        "loss_low": optimum.loss.low,
        "loss_high": optimum.loss.high,
        "raw_minimum": optimum.raw_minimum,
        "runs": optimum.runs,
        "diverged": optimum.diverged,
        "noise": fit.surface.noise,
        "way": str(optimum.way),
        "grid_noise": fit.noise.sd if on_grid else None,
        "grid_noise_from": fit.noise.source if on_grid else None,
    }
