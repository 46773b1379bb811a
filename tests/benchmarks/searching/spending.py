"""FLOP until a large cell's optimum is known, all cells counted: by ways of spending them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from searching.runner import NEAR, STEP_LAW, CellPath, Job, Visit
from searching.step_law import SETTINGS, StepLawSurface
from searching.surface import record_of

from orchestrator.laws.hyperparameters import NAME
from orchestrator.laws.predict import Context, predict
from orchestrator.laws.records import RunRecord
from orchestrator.laws.registry import fit_laws

SMALLEST = 4  # cells that are searched, or have a full grid, before the target
LEAST, MOST = 16, 40  # trials in each of the smallest; trials at most in a cell
DRAWS = 100  # of the fitted law: its point value alone is used


@dataclass(frozen=True, kw_only=True)
class Spent:
    """FLOP of one search, and the regret of its best point at the target."""

    flops: float
    regret: float

    @property
    def known(self) -> bool:
        """Whether the target's optimum was found."""
        return self.regret <= NEAR


def each_cell(method: str, seed: int, noise: float, target: int) -> Job:
    """Each cell is left as soon as its optimum is found, which somebody without the truth could not tell."""
    visits = tuple(Visit(cell=number, least=1, most=MOST) for number in range(target + 1))
    return _job(method, seed, noise, visits)


def target_alone(method: str, seed: int, noise: float, target: int) -> Job:
    """The target until its optimum is found, and no other cell."""
    return _job(method, seed, noise, (Visit(cell=target, least=1, most=MOST),))


def smallest_then_target(method: str, seed: int, noise: float, target: int) -> Job:
    """LEAST trials in each of the SMALLEST cells, then the target until its optimum is found."""
    smallest = tuple(Visit(cell=number, least=LEAST, most=LEAST) for number in range(SMALLEST))
    return _job(method, seed, noise, (*smallest, Visit(cell=target, least=1, most=MOST)))


def spent(paths: Sequence[CellPath]) -> Spent:
    """What a search cost, and how near it came."""
    return Spent(flops=math.fsum(path.flops for path in paths), regret=min(paths[-1].regrets))


def grid_and_extrapolate(surface: StepLawSurface, seed: int, noise: float, target: int) -> Spent:
    """Porian et al. 2024: a full grid on the SMALLEST cells, and their law's settings at the target, not tried."""
    records = [record for number in range(SMALLEST) for record in _grid(surface, number, seed, noise)]
    report = fit_laws(records, names=[NAME], draws=DRAWS)
    cell = surface.cells[target]
    found = predict(report.laws, Context(), params=cell.params, tokens=cell.tokens)
    settings = {name: found.value(name) for name in SETTINGS}
    flops = math.fsum(6 * (record.params or 0.0) * (record.tokens or 0.0) for record in records)
    return Spent(flops=flops, regret=surface.regret(cell.params, cell.tokens, settings))


def _job(method: str, seed: int, noise: float, visits: tuple[Visit, ...]) -> Job:
    return Job(surface=STEP_LAW, method=method, seed=seed, noise=noise, asked_after=(), visits=visits)


def _grid(surface: StepLawSurface, number: int, seed: int, noise: float) -> list[RunRecord]:
    cell = surface.cells[number]
    points = surface.grids[cell.params, cell.tokens]
    luck = np.random.default_rng([seed, number]).standard_normal(len(points))
    losses = [surface.evaluate(cell.params, cell.tokens, point.settings) for point in points]
    return [
        record_of(f"{number}-{index}", cell, points[index].settings, loss * math.exp(noise * luck[index]))
        for index, loss in enumerate(losses)
    ]
