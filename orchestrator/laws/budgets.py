"""Compute budgets: what different sizes reach with equal compute.

A table made for isoFLOP curves has them: runs whose flops fall together. Where it has not, the loss of
each size at a budget is read between its token counts, log-log along tokens; that is a measurement
where runs have a constant learning rate, or where each point is the end of a run of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.laws.loss_points import LossPoints
from orchestrator.laws.result import Floats
from orchestrator.laws.selection import cluster_numbers

# Runs whose flops differ by less, relatively, are of one budget: steps do not divide compute. A guess.
SAME_FLOPS = 0.05
# A budget needs so many sizes to have a minimum between two others; with fewer than SOUND_SIZES nothing
# is left to judge a parabola by.
FEWEST_SIZES = 3
SOUND_SIZES = 4
# A table has budgets of its own if so many of them come together; a line needs as many.
FEWEST_BUDGETS = 3
# Budgets that are read from curves lie this factor apart (Porian et al. 2024: doublings) ...
BUDGET_STEP = 2.0
# ... or, where these give fewer than so many, once for every few neighbouring sizes. A guess.
WANTED_BUDGETS = 6


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Sizes trained with equal compute, smallest first: arrays (sizes,). `points` are rows of the table.

    `points` is (sizes, 2): the rows that the loss was read between (twice the same where `measured`).
    """

    flops: float
    params: Floats
    tokens: Floats
    loss: Floats
    points: npt.NDArray[np.intp]
    measured: bool


def too_few_sizes(found: Sequence[Budget]) -> list[str]:
    """A reason where half of the budgets or more have fewer than SOUND_SIZES sizes."""
    few = sum(len(budget.params) < SOUND_SIZES for budget in found)
    return (
        [f"{few} of {len(found)} compute budgets have fewer than {SOUND_SIZES} sizes"] if 2 * few >= len(found) else []
    )


def budgets(points: LossPoints) -> tuple[Budget, ...]:
    """The table's own budgets, else budgets read from its curves; rising, with FEWEST_SIZES sizes or more."""
    own = _own_budgets(points)
    return own if len(own) >= FEWEST_BUDGETS else _read_budgets(points)


def _own_budgets(points: LossPoints) -> tuple[Budget, ...]:
    order = np.argsort(points.flops, kind="stable")
    breaks = np.flatnonzero(np.diff(np.log(points.flops[order])) > SAME_FLOPS) + 1
    groups = (_own_budget(points, rows) for rows in np.split(order, breaks))
    return tuple(group for group in groups if len(group.params) >= FEWEST_SIZES)


def _own_budget(points: LossPoints, rows: npt.NDArray[np.intp]) -> Budget:
    """One budget; of several runs of a size the lowest counts (Porian et al. 2024).

    Sizes that differ by less than a table rounds are one: a spline through both would have any slope.
    """
    size = cluster_numbers(points.params[rows].tolist())
    order = np.lexsort((points.loss[rows], size))
    chosen = rows[order[np.unique(size[order], return_index=True)[1]]]
    return Budget(
        flops=float(np.exp(np.log(points.flops[chosen]).mean())),
        params=points.params[chosen],
        tokens=points.tokens[chosen],
        loss=points.loss[chosen],
        points=np.stack([chosen, chosen], axis=1),
        measured=True,
    )


@dataclass(frozen=True, kw_only=True)
class _Curve:
    """The lowest loss of one size along rising flops; `rows` of the table."""

    params: float
    rows: npt.NDArray[np.intp]


def _read_budgets(points: LossPoints) -> tuple[Budget, ...]:
    size = cluster_numbers(points.params.tolist())
    found = [_curve(points, np.flatnonzero(size == number)) for number in range(size.max() + 1)]
    curves = [curve for curve in found if len(curve.rows) > 1]
    if len(curves) < FEWEST_SIZES:
        return ()
    ends = np.array([points.flops[curve.rows[[0, -1]]] for curve in curves])
    for places in (_doublings(ends), _overlaps(ends)):
        read = [_read_budget(points, curves, flops) for flops in places]
        usable = tuple(budget for budget in read if len(budget.params) >= FEWEST_SIZES)
        if len(usable) >= WANTED_BUDGETS:
            break
    return usable


def _doublings(ends: Floats) -> Floats:
    """Flops a factor BUDGET_STEP apart, where FEWEST_SIZES curves have begun and as many have not ended."""
    low, high = np.sort(ends[:, 0])[FEWEST_SIZES - 1], np.sort(ends[:, 1])[-FEWEST_SIZES]
    count = int(np.log(max(high / low, 1.0)) / np.log(BUDGET_STEP)) + 1
    places: Floats = np.geomspace(low, low * BUDGET_STEP ** (count - 1), count)
    return places


def _overlaps(ends: Floats) -> Floats:
    """The middle of the compute that FEWEST_SIZES neighbouring sizes share, once for each such set."""
    last = len(ends) - FEWEST_SIZES + 1
    shared = [(ends[at : at + FEWEST_SIZES, 0].max(), ends[at : at + FEWEST_SIZES, 1].min()) for at in range(last)]
    return np.unique([np.sqrt(low * high) for low, high in shared if low <= high])


def _curve(points: LossPoints, rows: npt.NDArray[np.intp]) -> _Curve:
    ordered = rows[np.lexsort((points.loss[rows], points.tokens[rows]))]
    return _Curve(
        params=float(np.median(points.params[rows])),
        rows=ordered[np.unique(points.tokens[ordered], return_index=True)[1]],
    )


def _read_budget(points: LossPoints, curves: list[_Curve], flops: float) -> Budget:
    params, tokens, loss, rows = [], [], [], []
    tolerance = 1e-9
    for curve in curves:
        logs = np.log(points.flops[curve.rows])
        place = np.log(flops)
        if not logs[0] - tolerance <= place <= logs[-1] + tolerance:
            continue
        right = int(np.clip(np.searchsorted(logs, place), 1, len(logs) - 1))
        pair = curve.rows[[right - 1, right]]
        part = (place - logs[right - 1]) / (logs[right] - logs[right - 1])
        params.append(curve.params)
        tokens.append(_between(points.tokens[pair], part))
        loss.append(_between(points.loss[pair], part))
        rows.append(pair)
    return Budget(
        flops=float(flops),
        params=np.array(params),
        tokens=np.array(tokens),
        loss=np.array(loss),
        points=np.array(rows, dtype=np.intp).reshape(-1, 2),
        measured=False,
    )


def _between(pair: Floats, part: float) -> float:
    """Log-linear between two values."""
    return float(np.exp((1 - part) * np.log(pair[0]) + part * np.log(pair[1])))
