"""What asking costs: the time until a sampler proposes, with many trials in the cell and cells behind it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial, create_trial
from searching.methods import METHODS, Method, make_sampler
from searching.surface import Cell, Settings, record_of

from orchestrator.laws.records import RunRecord

RATE, BATCH = (3e-4, 3e-2), (2.0**15, 2.0**21)
ASKS = 5


@dataclass(frozen=True, kw_only=True)
class AskingCost:
    """Milliseconds: of the first ask of a new sampler (it made, too), and the median of the next ones."""

    first: float
    next: float


def asking_cost(method_name: str, *, trials: int, cells: int, trials_behind: int) -> AskingCost:
    """Ask with so many finished trials in the cell and in each of the cells behind it; each ask is told."""
    method = METHODS[method_name]
    rng = np.random.default_rng(0)
    ladder = [_cell(number) for number in range(cells + 1)]
    history = [record for cell in ladder[:-1] for record in _records(cell, trials_behind, rng)]
    cell = ladder[-1]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.add_trials(_finished(method, cell, trials, rng))
    began = time.perf_counter()
    study.sampler = make_sampler(method, cell, history, 0)
    times = []
    for _ in range(ASKS + 1):
        trial = study.ask(dict(method.distributions(cell)))
        times.append(1000 * (time.perf_counter() - began))
        study.tell(trial, _loss(cell, method.to_settings(trial.params), rng))
        began = time.perf_counter()
    return AskingCost(first=times[0], next=float(np.median(times[1:])))


def _cell(number: int) -> Cell:
    params = 1e7 * 1.4**number
    return Cell(params=params, tokens=20 * params, ranges={"learning_rate": RATE, "batch_tokens": BATCH})


def _loss(cell: Cell, settings: Settings, rng: np.random.Generator) -> float:
    """A quadratic around power laws, noise 0.1 %."""
    rate = math.log(settings["learning_rate"] / (0.006 * (cell.params / 1e7) ** -0.3))
    batch = math.log(settings["batch_tokens"] / (1e5 * (cell.params / 1e7) ** 0.4))
    excess = 0.01 * rate**2 + 0.01 * batch**2 + 0.001 * rng.standard_normal()
    return 3 * math.exp(excess - 0.1 * math.log(cell.params / 1e7))


def _draw(cell: Cell, rng: np.random.Generator) -> Settings:
    return {name: math.exp(rng.uniform(math.log(low), math.log(high))) for name, (low, high) in cell.ranges.items()}


def _records(cell: Cell, count: int, rng: np.random.Generator) -> list[RunRecord]:
    draws = [_draw(cell, rng) for _ in range(count)]
    return [
        record_of(f"{cell.params:.0f}-{number}", cell, settings, _loss(cell, settings, rng))
        for number, settings in enumerate(draws)
    ]


def _finished(method: Method, cell: Cell, count: int, rng: np.random.Generator) -> Sequence[FrozenTrial]:
    draws = [_draw(cell, rng) for _ in range(count)]
    return [
        create_trial(
            value=_loss(cell, settings, rng),
            params=method.to_params(settings),
            distributions=dict(method.distributions(cell)),
        )
        for settings in draws
    ]
