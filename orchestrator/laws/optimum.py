"""The best settings of each cell, with intervals, or the edge of the tried range that they lie on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from scipy import stats

from orchestrator.laws.records import RunRecord
from orchestrator.laws.resample import unit_indices
from orchestrator.laws.result import Estimate, Floats
from orchestrator.laws.selection import CellRuns
from orchestrator.laws.surface import Surface, fit_surface
from orchestrator.laws.surface_form import Observations
from search_spaces.errors import FitError

SETTINGS = ("learning_rate", "batch_tokens", "beta2")
# Runs further above their cell's best than this, in log loss, say little about the optimum (Step Law's
# surfaces are curved beyond 5-10 %); the best runs always stay, so many times the cell's parameters.
WINDOW = 0.05
WINDOW_RUNS = 3
# A setting is fitted where half of the cells tried at least so many of its values.
DISTINCT_VALUES = 3
# An optimum this close to the end of the tried range, as a part of it, is on the edge (search_spaces.axis).
EDGE_FRACTION = 0.05
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


@dataclass(frozen=True, kw_only=True)
class OptimumFit:
    """Optima of the fitted cells, in the order of `cells`, and the surface that they come from.

    Coordinates are natural logarithms of learning rate, batch tokens and beta2's half-life in steps.
    """

    cells: tuple[CellRuns, ...]
    optima: tuple[Optimum, ...]
    settings: tuple[str, ...]
    flat: tuple[str, ...]
    surface: Surface
    seed_noise: float | None  # standard deviation of log loss between runs of equal settings

    @property
    def runs(self) -> int:
        """Number of runs in the fitted cells."""
        return len({run.run_id for cell in self.cells for run in cell.runs})

    def rows(self) -> list[dict[str, Any]]:
        """One plain mapping a cell, for tables and plots."""
        return [_row(self, number) for number in range(len(self.optima))]

    def curvature_rows(self) -> list[dict[str, Any]]:
        """The pooled curvature of log loss per unit of log setting squared, one mapping a setting."""
        matrix = self.surface.curvature
        return [
            {"setting": name, "skew": self.surface.skew if index == 0 else 0.0}
            | {other: float(matrix[index, place]) for place, other in enumerate(self.settings)}
            for index, name in enumerate(self.settings)
        ]


def half_life_steps(beta2: float) -> float:
    """Steps after which AdamW's second moment has forgotten half: beta2 = 2^(-1/steps)."""
    return -math.log(2) / math.log(beta2)


def beta2_of(half_life: float) -> float:
    """The inverse of `half_life_steps`."""
    return float(2 ** (-1 / half_life))


def coordinate(run: RunRecord, setting: str) -> float:
    """Natural logarithm of a setting (of its half-life in steps for beta2)."""
    value = getattr(run, setting)
    return math.log(half_life_steps(value)) if setting == "beta2" else math.log(value)


def from_coordinate(place: float, setting: str) -> float:
    """The inverse of `coordinate`."""
    return beta2_of(math.exp(place)) if setting == "beta2" else math.exp(place)


def fit_optima(cells: Sequence[CellRuns], *, confidence: float) -> OptimumFit:
    """Fit the surface over all cells with enough runs; settings that do not matter are left out as flat.

    Raises FitError where no cell has enough runs, or no setting was varied or matters.
    """
    settings = _varied(cells)
    flat: list[str] = []
    while settings:
        enough = tuple(cell for cell in cells if len(cell.runs) >= len(settings) + 2)
        if not enough:
            most = max((len(cell.runs) for cell in cells), default=0)
            raise FitError(
                f"no cell has enough runs for an optimum: the fullest has {most}, "
                f"and {len(settings)} settings need {len(settings) + 2}"
            )
        data = _observations(enough, settings)
        surface = fit_surface(data)
        worst = _flattest(data, settings, surface)
        if worst is None:
            optima = tuple(_optimum(cell, n, settings, surface, confidence) for n, cell in enumerate(enough))
            return OptimumFit(
                cells=enough,
                optima=optima,
                settings=settings,
                flat=tuple(flat),
                surface=surface,
                seed_noise=seed_noise(enough),
            )
        flat.append(worst)
        settings = tuple(name for name in settings if name != worst)
    words = f"{', '.join(flat)} made no difference" if flat else "no setting was varied"
    raise FitError(f"there is no optimum to fit: {words} (at least {DISTINCT_VALUES} values a cell are needed)")


def seed_noise(cells: Sequence[CellRuns]) -> float | None:
    """Standard deviation of log loss between runs of equal settings in one cell; None without any."""
    squares, dof = 0.0, 0
    for cell in cells:
        groups: dict[tuple[float | None, ...], list[float]] = {}
        for run in cell.runs:
            groups.setdefault((run.learning_rate, run.batch_tokens, run.beta2), []).append(math.log(run.loss or 1.0))
        for losses in groups.values():
            squares += float(np.var(losses)) * len(losses)
            dof += len(losses) - 1
    return math.sqrt(squares / dof) if dof else None


def _varied(cells: Sequence[CellRuns]) -> tuple[str, ...]:
    def often(setting: str) -> bool:
        counts = [len({getattr(run, setting) for run in cell.runs} - {None}) for cell in cells]
        return bool(counts) and float(np.median(counts)) >= DISTINCT_VALUES

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


def interior(cell: CellRuns, setting: str) -> tuple[float, float]:
    """Range of a setting's coordinate outside of which an optimum is on an edge."""
    low, high = _tried(cell, setting)
    margin = EDGE_FRACTION * (high - low)
    return low + margin, high - margin


def _tried(cell: CellRuns, setting: str) -> tuple[float, float]:
    """Range of a setting's coordinate in a cell; diverged runs widen that of the learning rate."""
    also = cell.diverged if setting == "learning_rate" else ()
    places = [coordinate(run, setting) for run in (*cell.runs, *also) if getattr(run, setting) is not None]
    return min(places), max(places)


def _flattest(data: Observations, settings: tuple[str, ...], surface: Surface) -> str | None:
    """The setting with the least evidence that the loss depends on it, where that is as good as none."""
    evidence = {name: surface.evidence(data, index) for index, name in enumerate(settings)}
    least = min(evidence, key=lambda name: evidence[name])
    return least if evidence[least] < LEAST_EVIDENCE * (1 + surface.shared) else None


def _optimum(cell: CellRuns, number: int, settings: tuple[str, ...], surface: Surface, confidence: float) -> Optimum:
    quantile = float(stats.t.ppf((1 + confidence) / 2, surface.dof))
    found: dict[str, Estimate | Edge] = {}
    nearest = surface.centre[number].copy()
    for index, name in enumerate(settings):
        low, high = _tried(cell, name)
        place = float(surface.centre[number, index])
        lowest, highest = interior(cell, name)
        nearest[index] = min(max(place, low), high)
        stderr = math.sqrt(surface.centre_covariance(index)[number, number])
        if place < lowest:
            found[name] = Edge.LOW
        elif place > highest:
            found[name] = Edge.HIGH
        else:
            found[name] = _in_units(place, stderr, quantile, name)
    stderr = float(surface.floor_stderr()[number])
    log_loss = float(surface.floor[number] + surface.excess(nearest - surface.centre[number]))
    return Optimum(
        scale=cell.scale,
        params=cell.params,
        tokens=cell.tokens,
        settings=found,
        loss=_loss(log_loss, stderr, quantile),
        raw_minimum=cell.raw_minimum,
        runs=len(cell.runs),
        diverged=len({run.run_id for run in cell.diverged}),
    )


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


def _loss(log_loss: float, stderr: float, quantile: float) -> Estimate:
    value = math.exp(log_loss)
    return Estimate(
        value=value,
        low=value * math.exp(-quantile * stderr),
        high=value * math.exp(quantile * stderr),
        stderr=value * stderr,
    )


def coordinate_errors(fit: OptimumFit, draws: int, rng: np.random.Generator) -> Floats:
    """Joint errors of the centres' coordinates, shape (draws, cells, settings)."""
    cells, settings = fit.surface.centre.shape
    covariance = fit.surface.covariance[cells:, cells:]
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    return np.asarray((rng.standard_normal((draws, cells * settings)) @ root.T).reshape(draws, cells, settings))


def _row(fit: OptimumFit, number: int) -> dict[str, Any]:
    optimum = fit.optima[number]
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
            f"{name}_centre": from_coordinate(float(fit.surface.centre[number, index]), name),
        }
    return row | {
        "loss": optimum.loss.value,
        "loss_low": optimum.loss.low,
        "loss_high": optimum.loss.high,
        "raw_minimum": optimum.raw_minimum,
        "runs": optimum.runs,
        "diverged": optimum.diverged,
        "noise": fit.surface.noise,
    }
