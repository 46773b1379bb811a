"""Searches the cells of a surface in order with one method, by Optuna's ask and tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from searching.methods import METHODS, Method, Recommending, make_sampler
from searching.planted import Kind, planted
from searching.step_law import read_step_law
from searching.surface import Settings, Surface, record_of

from orchestrator.laws.records import RunRecord

NEAR = 0.0025  # regret from which on a cell's optimum counts as found
STEP_LAW = "step-law"


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A cell by its number in the surface, and how long it is searched: until it is found, within these bounds."""

    cell: int
    least: int
    most: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """One search of a surface: STEP_LAW, where the seed is that of noise and sampler, or a Kind of planted ones.

    `noise` is relative. `at_once` trials are asked before any of them is told. Recommendations are
    taken after as many trials of a cell as `asked_after` says. Without `visits`, every cell is searched
    by `least` and `most`.
    """

    surface: str
    noise: float
    method: str = "random"
    seed: int = 0
    least: int = 16
    most: int = 40
    at_once: int = 1
    asked_after: tuple[int, ...] = (4, 16)
    visits: tuple[Visit, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class CellPath:
    """The search of one cell: regret of each trial in the order asked, and of what was recommended, by trials."""

    cell: int
    flops_per_trial: float
    regrets: tuple[float, ...]
    recommended: Mapping[int, float] = field(default_factory=dict)

    @property
    def found_after(self) -> int | None:
        """Number of the first trial within NEAR of the cell's best; None where there is none."""
        near = (number for number, regret in enumerate(self.regrets, start=1) if regret <= NEAR)
        return next(near, None)

    @property
    def flops(self) -> float:
        """FLOP of all its trials."""
        return self.flops_per_trial * len(self.regrets)


def surface_of(name: str, seed: int) -> Surface:
    """The surface of a job."""
    return read_step_law() if name == STEP_LAW else planted(Kind(name), seed)


def run_jobs(jobs: Sequence[Job], workers: int) -> list[list[CellPath]]:
    """The paths of each job, in the order of the jobs. Fresh processes, so that each has one thread."""
    if workers == 1:
        return [search(job) for job in jobs]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(search, jobs))


def search(job: Job) -> list[CellPath]:
    """The paths of a job."""
    return search_cells(surface_of(job.surface, job.seed), METHODS[job.method], job)


def search_cells(surface: Surface, method: Method, job: Job) -> list[CellPath]:
    """Search the cells one after another; every trial of the earlier ones is known to the method."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    every = (Visit(cell=number, least=job.least, most=job.most) for number in range(len(surface.cells)))
    history: list[RunRecord] = []
    paths: list[CellPath] = []
    previous: Settings | None = None
    for visit in job.visits or every:
        cell_search = _CellSearch(job, surface, method, visit, tuple(history))
        if method.from_previous and previous is not None:
            cell_search.start_at(previous)
        paths.append(cell_search.run())
        history += cell_search.records
        previous = cell_search.best
    return paths


class _CellSearch:
    """One study: it asks, measures with noise and tells."""

    def __init__(self, job: Job, surface: Surface, method: Method, visit: Visit, history: Sequence[RunRecord]) -> None:
        self._job, self._surface, self._method, self._visit = job, surface, method, visit
        self._cell = surface.cells[visit.cell]
        self._distributions = method.distributions(self._cell)
        seed = 1000 * job.seed + visit.cell
        self._study = optuna.create_study(sampler=make_sampler(method, self._cell, history, seed))
        self._regrets: list[float] = []
        self.records: list[RunRecord] = []

    @property
    def best(self) -> Settings:
        """The settings of the trial with the lowest measured loss."""
        return self._method.to_settings(self._study.best_params)

    def start_at(self, settings: Settings) -> None:
        """Ask for these settings first, moved into the cell's space."""
        inside = {name: min(max(settings[name], low), high) for name, (low, high) in self._cell.ranges.items()}
        self._study.enqueue_trial(_within(self._method.to_params(inside), self._distributions))

    def run(self) -> CellPath:
        """Search until the cell's optimum was found, within the bounds of the visit."""
        recommended: dict[int, float] = {}
        while not self._finished():
            asked = [self._study.ask(dict(self._distributions)) for _ in range(self._job.at_once)]
            for trial in asked:
                self._study.tell(trial, self._measure(trial))
            if len(self._regrets) in self._job.asked_after:
                recommended[len(self._regrets)] = self._regret(self._recommendation())
        return CellPath(
            cell=self._visit.cell,
            flops_per_trial=self._cell.flops,
            regrets=tuple(self._regrets),
            recommended=recommended,
        )

    def _finished(self) -> bool:
        done = len(self._regrets)
        if done < self._visit.least:
            return False
        return done >= self._visit.most or min(self._regrets) <= NEAR

    def _measure(self, trial: optuna.Trial) -> float:
        job, cell, number = self._job, self._cell, len(self._regrets)
        settings = self._method.to_settings(trial.params)
        luck = np.random.default_rng([job.seed, self._visit.cell, number]).standard_normal()
        loss = self._surface.evaluate(cell.params, cell.tokens, settings) * math.exp(job.noise * luck)
        self._regrets.append(self._regret(settings))
        self.records.append(record_of(f"{self._visit.cell}-{number}", cell, settings, loss))
        return loss

    def _recommendation(self) -> Settings:
        sampler = self._study.sampler
        model = sampler.recommend(self._study) if isinstance(sampler, Recommending) else None
        return self._method.to_settings(model) if model is not None else self.best

    def _regret(self, settings: Settings) -> float:
        return self._surface.regret(self._cell.params, self._cell.tokens, settings)


def _within(params: Mapping[str, float], distributions: Mapping[str, FloatDistribution]) -> dict[str, float]:
    """The parameters inside their distributions: 1 - (1 - x) is not x to the last digit."""
    inside = {}
    for name, value in params.items():
        bounds = distributions[name]
        inside[name] = min(max(value, bounds.low), bounds.high)
    return inside
