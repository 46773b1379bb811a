"""What one more run in each cell would tell about a target that is not trained.

Two things are wanted of the target: its best settings, whose error costs regret, and its loss. Both are
linear in the hierarchy's parameters near its fit, so that a run's worth is known before it is made: by how
much it lowers the target's expected regret and the variance of its log loss, as parts of what they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.cell_search import Posterior, most_telling
from orchestrator.laws.guide import Fitted, Hierarchy, guiding_cells
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Floats
from orchestrator.laws.selection import SAME_COUNT
from orchestrator.laws.surface_descent import Errors

# How far cells' floors lie from any law of the loss, in log loss. A guess.
LACK_OF_FIT = 0.003
# The law of the loss that is assumed for its slopes: parts of the loss at the middle of the cells that E,
# A / N^alpha and B / D^beta have, and the exponents (between those of Hoffmann et al. 2022 and Besiroglu
# et al. 2024). The parameters' standard deviations before any cell is measured. Guesses.
PARTS, LOSS_EXPONENTS = (0.5, 0.25, 0.25), (0.34, 0.32)
LOSS_SPREADS = (1.0, 1.0, 1.0, 0.1, 0.1)
# A cell is wanted to be known to this part of what the laws of the others leave open: a further run that
# tells less of its optimum is not worth its compute. A guess.
ENOUGH = 0.1
# ... and to have so many runs a setting, and two more: the laws that are fitted in the end find each cell's
# optimum without this hierarchy's priors, and need runs on both sides of it. A guess.
LEAST_RUNS = 2


@dataclass(frozen=True, kw_only=True)
class Worth:
    """Of one more run in a cell.

    `regret` and `loss` are the parts of the target's expected regret and of the variance of its log loss
    that it takes away. `settled`: it would tell next to nothing of the cell's own optimum.
    """

    regret: float
    loss: float
    settled: bool

    @property
    def total(self) -> float:
        """Both parts together."""
        return self.regret + self.loss


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What is known of the target now, as log loss, and what a run in each planned cell would be worth."""

    expected_regret: float
    loss_stderr: float
    worth: tuple[Worth, ...]


def outlook(
    records: Sequence[RunRecord],
    settings: Sequence[str],
    *,
    planned: Sequence[Sequence[tuple[float, float]]],
    bounds: tuple[Floats, Floats],
    target: tuple[float, float],
) -> Outlook | None:
    """The outlook on a target (params, tokens); None until a cell has as many runs as a surface has parameters.

    `planned` has for each search, begun or not, the sizes of the cells that its runs serve, the searched one
    last; `bounds` are the ends of the spaces in coordinates.
    """
    cells = guiding_cells(records, settings)
    if max((len(cell.runs) for cell in cells), default=0) < len(settings) + 2:
        return None
    measured = [(cell.params, cell.tokens) for cell in cells]
    searched = [sizes[-1] for sizes in planned]
    new = [size for size in searched if not any(_same(size, other) for other in measured)]
    hierarchy = Hierarchy(cells, settings, [*new, target])
    runs = [len(cell.runs) for cell in cells] + [0] * (len(new) + 1)
    places = [next(at for at, other in enumerate(hierarchy.sizes) if _same(size, other)) for size in searched]
    served = dict(zip(places, planned, strict=True))
    view = _View(hierarchy, hierarchy.fit(), runs, served)
    return Outlook(
        expected_regret=view.regret,
        loss_stderr=float(np.sqrt(view.loss_variance())),
        worth=tuple(view.worth(at, *bounds) for at in places),
    )


def _same(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return all(abs(a / b - 1) < SAME_COUNT for a, b in zip(first, second, strict=True))


class _View:
    """A fitted hierarchy whose last cell is the target."""

    def __init__(
        self,
        hierarchy: Hierarchy,
        fitted: Fitted,
        runs: Sequence[int],
        served: Mapping[int, Sequence[tuple[float, float]]],
    ) -> None:
        """`served`: the sizes that a cell's runs are also measured at, by the cell's place in the hierarchy."""
        self._hierarchy, self._fitted, self._runs = hierarchy, fitted, runs
        self._covariance: Floats = np.asarray(np.linalg.inv(fitted.precision))
        self._target = hierarchy.centre_rows(len(hierarchy.sizes) - 1)[1:]
        self.regret = self._expected(self._target, self._covariance)
        middle = np.log(hierarchy.sizes[:-1]).mean(axis=0)
        cells = range(len(hierarchy.sizes) - 1)
        self._slopes = [_loss_slopes(served.get(at, [hierarchy.sizes[at]]), middle) for at in cells]
        self._target_slopes = _loss_slopes([hierarchy.sizes[-1]], middle)[0]

    def worth(self, cell: int, low: Floats, high: Floats) -> Worth:
        """Of a run at the most telling place; of a cell's first runs, which tell together, of each its part."""
        enough = len(self._hierarchy.settings) + 2
        known, places = self._posterior(cell, self._covariance), np.empty((0, low.size))
        single = most_telling(known, places, low, high)[1]
        for _ in range(max(enough - self._runs[cell], 1)):
            places = np.vstack([places, most_telling(known, places, low, high)[0]])
        rows = self._hierarchy.rows(self._fitted, cell, places)
        after = self._covariance - _lowered(self._covariance, rows)
        before, then = self.regret, self._expected(self._target, after)
        errors = self._fitted.guide.errors
        variance, less = self.loss_variance(), self.loss_variance(cell, errors, len(places))
        unsettled = ENOUGH * self._left_open(cell)
        return Worth(
            regret=(before - then) / before / len(places),
            loss=(variance - less) / variance / len(places),
            settled=self._runs[cell] >= LEAST_RUNS * len(self._hierarchy.settings) + 2 and single < unsettled,
        )

    def loss_variance(self, cell: int | None = None, errors: Errors | None = None, runs: int = 0) -> float:
        """Variance of the target's log loss by a law through all floors; after so many runs more in a cell."""
        floors = np.diag(self._covariance)[: len(self._slopes)].copy()
        if cell is not None and errors is not None:
            floors[cell] = 1 / (1 / floors[cell] + runs / errors.noise**2)
        precision = np.diag(1 / np.square(LOSS_SPREADS))
        for floor, slopes in zip(floors, self._slopes, strict=True):
            # One search's cells are read from the same runs: what is not known of their floors they share.
            errors_of = floor + LACK_OF_FIT**2 * np.eye(len(slopes))
            precision += slopes.T @ np.linalg.solve(errors_of, slopes)
        return float(self._target_slopes @ np.linalg.solve(precision, self._target_slopes))

    def _posterior(self, cell: int, covariance: Floats) -> Posterior:
        rows = self._hierarchy.centre_rows(cell)
        return Posterior(
            guide=self._fitted.guide,
            mean=rows @ self._fitted.free,
            precision=np.asarray(np.linalg.inv(rows @ covariance @ rows.T)),
            log_evidence=0.0,
        )

    def _left_open(self, cell: int) -> float:
        """Expected regret in the cell from the laws and its deviation alone, as if it had no runs of its own."""
        belief = self._fitted.guide.belief(*self._hierarchy.sizes[cell])
        return 0.5 * float(np.trace(self._fitted.guide.curvature @ belief.covariance))

    def _expected(self, rows: Floats, covariance: Floats) -> float:
        return 0.5 * float(np.trace(self._fitted.guide.curvature @ rows @ covariance @ rows.T))


def _lowered(covariance: Floats, rows: Floats) -> Floats:
    """By how much runs with these slopes, in units of their errors, lower a covariance."""
    moved = rows @ covariance
    return np.asarray(moved.T @ np.linalg.solve(np.eye(len(rows)) + moved @ rows.T, moved))


def _loss_slopes(sizes: Sequence[tuple[float, float]], middle: Floats) -> Floats:
    """d(log loss) / d(log E, log A, log B, alpha, beta) at each size, (cells, 5)."""
    offset = np.log(sizes) - middle
    parts = np.column_stack(
        [
            np.full(len(offset), PARTS[0]),
            PARTS[1] * np.exp(-LOSS_EXPONENTS[0] * offset[:, 0]),
            PARTS[2] * np.exp(-LOSS_EXPONENTS[1] * offset[:, 1]),
        ]
    )
    shares = parts / parts.sum(axis=1, keepdims=True)
    return np.column_stack([shares, -shares[:, 1:] * offset])
