"""The frontier of a table: the lowest loss over sizes at each compute, and samples of it.

At each compute budget (the table's own, or read from curves, see budgets.py) it is the inner minimum of
an Akima spline over log N, so that it does not depend on which sizes happened to be tried. A table
whose budgets have too few such minima gives the points that no cheaper one beats, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.laws.akima_copies import akima_minimum
from orchestrator.laws.budgets import Budget, budgets
from orchestrator.laws.fitted_surface import fitted_surface
from orchestrator.laws.loss_points import LossPoints, need, replicate_weights
from orchestrator.laws.newton import Samples
from orchestrator.laws.result import Floats
from orchestrator.laws.run_noise import shifted_samples

# Budgets with an inner minimum that a frontier needs, else unbeaten points stand for it. A guess.
FEWEST_MINIMA = 4


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """Arrays (points,) by rising flops. `runs` are the exchangeable units that hold each point.

    `budgets` are empty where the points are single runs that no cheaper one beats.
    """

    flops: Floats
    params: Floats
    tokens: Floats
    loss: Floats
    runs: tuple[str, ...]
    budgets: tuple[Budget, ...]

    @property
    def units(self) -> int:
        """Number of exchangeable units."""
        return len(set(self.runs))

    @property
    def measured(self) -> bool:
        """Whether the points are measurements, not read from curves."""
        return all(budget.measured for budget in self.budgets)

    @property
    def reasons(self) -> list[str]:
        """Why the points may lie above the frontier."""
        if self.budgets:
            return []
        return ["too few compute budgets with a minimum between the sizes: points that no cheaper one beats are used"]

    @property
    def rows(self) -> list[dict[str, float]]:
        """A row a point, for people."""
        columns = {"flops": self.flops, "params": self.params, "tokens": self.tokens, "loss": self.loss}
        return [{name: float(column[at]) for name, column in columns.items()} for at in range(len(self.flops))]


def frontier_points(points: LossPoints) -> Frontier:
    """The frontier of the table, as measured."""
    found = budgets(points)
    log_params, log_loss = _minima(found, np.zeros((1, len(points.loss))))
    inner = np.isfinite(log_loss[0])
    if inner.sum() < FEWEST_MINIMA:
        return _unbeaten(points)
    used = tuple(budget for budget, inside in zip(found, inner, strict=True) if inside)
    params = np.exp(log_params[0, inner])
    return Frontier(
        flops=np.array([budget.flops for budget in used]),
        params=params,
        tokens=np.array([_tokens_at(budget, size) for budget, size in zip(used, params, strict=True)]),
        loss=np.exp(log_loss[0, inner]),
        runs=tuple(points.units[int(budget.points[np.argmin(budget.loss), 1])] for budget in used),
        budgets=used,
    )


def frontier_samples(points: LossPoints, front: Frontier, draws: int, seed: int, *, fewest: int) -> Samples:
    """Samples with at least `fewest` different points.

    Measured frontiers are resampled by the runs that hold them; those read from curves get other noise,
    and a point counts in a sample where it still lies between the sizes.
    """
    if not front.measured:
        _, log_loss = _minima(front.budgets, shifted_samples(points, fitted_surface(points), draws, seed))
        inner = np.isfinite(log_loss)
        shifts = np.where(inner, log_loss - np.log(front.loss), 0.0)
        enough = inner.sum(axis=1) >= fewest
        samples = Samples(weights=inner[enough].astype(float), shifts=shifts[enough])
    else:
        samples = Samples.weighted(replicate_weights(front.runs, draws, seed))
    need("frontier", {"samples with enough budgets": (len(samples), 2)})
    return samples


def _minima(found: Sequence[Budget], shifts: Floats) -> tuple[Floats, Floats]:
    """Log params and log loss of every budget's inner minimum in every sample, (draws, budgets)."""
    pairs = [
        akima_minimum(np.log(budget.params), np.log(budget.loss)[:, None] + shifts[:, budget.points].mean(axis=2).T)
        for budget in found
    ]
    empty = np.empty((len(shifts), 0))
    columns = zip(*pairs, strict=True) if pairs else iter([(), ()])
    log_params, log_loss = (np.stack(column, axis=1) if column else empty for column in columns)
    return log_params, log_loss


def _tokens_at(budget: Budget, params: float) -> float:
    return float(np.exp(np.interp(np.log(params), np.log(budget.params), np.log(budget.tokens))))


def _unbeaten(points: LossPoints) -> Frontier:
    """Points whose loss none with as little compute reaches."""
    order: npt.NDArray[np.intp] = np.lexsort((points.loss, points.flops))
    before = np.concatenate([[np.inf], np.minimum.accumulate(points.loss[order])[:-1]])
    chosen = points[order[points.loss[order] < before]]
    return Frontier(
        flops=chosen.flops,
        params=chosen.params,
        tokens=chosen.tokens,
        loss=chosen.loss,
        runs=chosen.units,
        budgets=(),
    )
