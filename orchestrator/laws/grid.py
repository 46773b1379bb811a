"""The best learning rate and batch of a cell that was measured on a grid, as Porian et al. 2024 find them.

arXiv:2406.19146 and its code: at each batch the lowest loss over beta2 and replicates at each learning
rate, an Akima spline of log loss over log learning rate, its lowest point on a fine grid; then the same
over log batch with what the batches' splines reach. An optimum between the last two values of a setting
lies on an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.akima import Lowest, lowest, splines
from orchestrator.laws.result import Floats
from orchestrator.laws.selection import CellRuns, cluster_numbers, clusters
from orchestrator.laws.surface_form import Ints

AXES = ("learning_rate", "batch_tokens")
POINTS = 100  # of the fine grid (Porian et al. 2024)
# Values of each setting that a grid has at least (Porian et al. 2024 had 5 to 7), and the part of all
# their pairs that was run: a guess, Step Law's published cells have 0.88 to 1.
LEAST_VALUES = 5
FILLED = 0.8
LEAST_RATES = 3  # a batch needs so many rates with a loss: a spline through two has no valley


@dataclass(frozen=True, kw_only=True)
class Row:
    """One batch of a grid: its learning rates with a loss, rising, and the numbers of the runs at each."""

    log_batch: float
    log_rates: Floats
    runs: tuple[Ints, ...]

    def valley(self, log_loss: Floats) -> Lowest:
        """The best learning rate under each column of the runs' log losses."""
        return lowest(self.log_rates, np.stack([log_loss[at].min(axis=0) for at in self.runs]), points=POINTS)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A cell's runs by batch, and the rising log learning rates that were tried, diverged ones included."""

    rows: tuple[Row, ...]
    log_rates: Floats

    @property
    def log_batches(self) -> Floats:
        """Rising, (rows,)."""
        return np.array([row.log_batch for row in self.rows])

    @property
    def interior(self) -> Floats:
        """Second and last but one value of each of AXES, (2, 2): an optimum outside is on an edge."""
        return np.array([[values[1], values[-2]] for values in (self.log_rates, self.log_batches)])

    @property
    def gaps(self) -> Floats:
        """The usual distance between two values of each of AXES, (2,)."""
        return np.array([np.median(np.diff(values)) for values in (self.log_rates, self.log_batches)])

    def best(self, log_loss: Floats) -> Floats:
        """The best coordinates of AXES, (draws, 2), under each column of the runs' log losses (runs, draws)."""
        valleys = [row.valley(log_loss) for row in self.rows]
        over = lowest(self.log_batches, np.stack([valley.height for valley in valleys]), points=POINTS)
        log_rates = splines(self.log_batches, np.stack([valley.place for valley in valleys]), over.grid)
        return np.column_stack([log_rates[over.at, np.arange(len(over.at))], over.place])


def grid_of(cell: CellRuns) -> Grid | None:
    """The cell's grid of learning rate and batch; None where its runs are no nearly full grid."""
    settings = [(run.learning_rate, run.batch_tokens) for run in (*cell.runs, *cell.diverged)]
    pairs = np.array([pair for pair in settings if None not in pair], dtype=float)
    if len(pairs) < len(settings) or not len(pairs):
        return None
    (rates, rate), (batches, batch) = (_axis(column) for column in pairs.T)
    filled = len(set(zip(rate, batch, strict=True))) / (len(rates) * len(batches))
    measured = len(cell.runs)
    rows = [
        _row(batches[at], rates, np.where(batch[:measured] == at, rate[:measured], -1)) for at in range(len(batches))
    ]
    usable = tuple(row for row in rows if len(row.runs) >= LEAST_RATES)
    if filled < FILLED or min(len(rates), len(usable)) < LEAST_VALUES:
        return None
    return Grid(rows=usable, log_rates=rates)


def _axis(values: Sequence[float]) -> tuple[Floats, Ints]:
    """The distinct values' logarithms, rising, and which of them each value is."""
    return np.log([high for _, high in clusters(values)]), cluster_numbers(values)


def _row(log_batch: float, log_rates: Floats, rate: Ints) -> Row:
    """`rate` is the number of each run's learning rate, -1 for runs at other batches."""
    present = np.unique(rate[rate >= 0])
    runs = tuple(np.flatnonzero(rate == number) for number in present)
    return Row(log_batch=float(log_batch), log_rates=log_rates[present], runs=runs)
