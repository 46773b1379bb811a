"""The noise of log loss between runs of equal settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.resample import unit_indices
from orchestrator.laws.result import Floats
from orchestrator.laws.selection import CellRuns
from orchestrator.laws.surface import Surface
from orchestrator.laws.surface_form import Ints, Observations

# Fewer degrees of freedom than these tell the noise worse than the surface's residuals do. A guess.
LEAST_DOF = 4

# The part of the runs, nearest to the optima, whose residuals are taken for noise. A guess.
NEAREST = 0.25


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Standard deviation of log loss between equal runs, its degrees of freedom and where it is from.

    `shared` is the part of the variance that one run's readings in several cells have in common.
    """

    sd: float
    dof: float
    source: str
    shared: float

    def sample(self, runs: Ints, draws: int, rng: np.random.Generator) -> Floats:
        """What each draw adds to readings of the numbered runs, (readings, draws)."""
        common = rng.standard_normal((int(runs.max()) + 1, draws))[runs]
        own = rng.standard_normal((len(runs), draws))
        return np.asarray(self.sd * (math.sqrt(self.shared) * common + math.sqrt(1 - self.shared) * own))


def noise_of(cells: Sequence[CellRuns], data: Observations, surface: Surface) -> Noise:
    """The noise between replicates where there are enough, else of the surface's residuals near its optima."""
    squares, dof = _replicate_squares(cells)
    read = [run.run_id for cell in cells for run in cell.runs]
    free = dof * len(set(read)) / len(read)  # readings of one run tell its luck once
    if free < LEAST_DOF:
        sd = _valley_noise(data, surface)
        return Noise(sd=sd, dof=surface.dof, source="residuals of the quadratic", shared=surface.shared)
    return Noise(sd=math.sqrt(squares / dof), dof=free, source="replicates", shared=surface.shared)


def _valley_noise(data: Observations, surface: Surface) -> float:
    """Standard deviation of the residuals of the runs nearest to their cell's optimum.

    Not `surface.noise`: what far runs leave to a misfit that grows with the excess, it may take for
    misfit near the optimum too (half of the true noise on wide planted grids).
    """
    excess = surface.excess(data.coordinates - surface.centre[data.cell])
    residual = data.log_loss - surface.floor[data.cell] - excess
    near = excess <= np.quantile(excess, NEAREST)
    free = surface.dof / data.log_loss.size
    return max(float(np.sqrt((residual[near] ** 2).mean() / free)), surface.noise)


def seed_noise(cells: Sequence[CellRuns]) -> float | None:
    """Standard deviation of log loss between runs of equal settings in one cell; None without any."""
    squares, dof = _replicate_squares(cells)
    return math.sqrt(squares / dof) if dof else None


def _replicate_squares(cells: Sequence[CellRuns]) -> tuple[float, int]:
    """Sum of squares of log loss within groups of equal settings, and its degrees of freedom."""
    squares, dof = 0.0, 0
    for cell in cells:
        settings = [(run.learning_rate, run.batch_tokens, run.beta2) for run in cell.runs]
        log_loss = np.log([run.loss or math.nan for run in cell.runs])
        group = unit_indices(settings)
        sizes = np.bincount(group)
        away = log_loss - (np.bincount(group, log_loss) / sizes)[group]
        squares, dof = squares + float((away**2).sum()), dof + len(cell.runs) - len(sizes)
    return squares, dof
