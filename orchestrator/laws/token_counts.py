"""What the largest size reaches at each token count that three sizes share.

Token counts are the table's own where three or more of them are shared and hold most of the points. Else
the losses are read from the sizes' curves, log-log along tokens, at doublings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from orchestrator.laws.kaplan_points import fall_per_doubling
from orchestrator.laws.loss_points import LossPoints
from orchestrator.laws.result import Floats
from orchestrator.laws.selection import SAME_COUNT, cluster_numbers
from orchestrator.laws.size_curves import read, size_curves

# A count is shared where so many sizes have it: fewer do not show whether size still matters.
FEWEST_SIZES = 3
# So many shared counts are a table's own; a line needs as many.
FEWEST_COUNTS = 3
STEP = 2.0  # counts that are read from curves lie this factor apart


@dataclass(frozen=True, kw_only=True)
class TokenCount:
    """One loss of the largest size at a token count; `run` decides it.

    `fall_per_doubling`: by what part the loss at this count falls when params double.
    """

    tokens: float
    params: float
    loss: float
    run: str
    fall_per_doubling: float | None


def token_counts(points: LossPoints) -> tuple[TokenCount, ...]:
    """By rising tokens; every run of the largest size at an own count, one reading at others."""
    shared = _shared(points)
    own = len(shared) >= FEWEST_COUNTS and 2 * sum(map(len, shared)) >= len(points.loss)
    return _measured(points, shared) if own else _read(points)


def _shared(points: LossPoints) -> list[npt.NDArray[np.intp]]:
    """The rows of each of the table's own counts. Counts that touch in a chain are a curve's, not a count."""
    number, size = cluster_numbers(points.tokens.tolist()), cluster_numbers(points.params.tolist())
    order = np.argsort(number, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    return [
        rows
        for rows in groups
        if len(np.unique(size[rows])) >= FEWEST_SIZES
        and points.tokens[rows].max() <= points.tokens[rows].min() * (1 + SAME_COUNT) ** 2
    ]


def _measured(points: LossPoints, shared: list[npt.NDArray[np.intp]]) -> tuple[TokenCount, ...]:
    found = []
    for rows in shared:
        fall = fall_per_doubling(points.params[rows], points.loss[rows])
        largest = rows[points.params[rows] >= points.params[rows].max() * (1 - SAME_COUNT)]
        found += [
            TokenCount(
                tokens=float(points.tokens[row]),
                params=float(points.params[row]),
                loss=float(points.loss[row]),
                run=points.units[row],
                fall_per_doubling=fall,
            )
            for row in largest
        ]
    return tuple(found)


def _read(points: LossPoints) -> tuple[TokenCount, ...]:
    along_tokens = size_curves(replace(points, flops=points.tokens))
    curves = [curve for curve in along_tokens if len(curve.loss) > 1]
    if len(curves) < FEWEST_SIZES:
        return ()
    places = _doublings(np.array([curve.tokens[[0, -1]] for curve in curves]))
    rows = [np.arange(len(curve.loss)) for curve in curves]
    losses = np.stack([read(curve, at, curve.loss, np.log(places)) for curve, at in zip(curves, rows, strict=True)])
    params = np.array([curve.params[0] for curve in curves])
    found = []
    for tokens, column in zip(places, losses.T, strict=True):
        there = np.flatnonzero(np.isfinite(column))
        if len(there) < FEWEST_SIZES:
            continue
        largest, loss = curves[there[-1]], np.exp(column[there])
        found.append(
            TokenCount(
                tokens=float(tokens),
                params=float(params[there[-1]]),
                loss=float(loss[-1]),
                run=largest.units[min(int(np.searchsorted(largest.tokens, tokens)), len(largest.units) - 1)],
                fall_per_doubling=fall_per_doubling(params[there], loss),
            )
        )
    return tuple(found)


def _doublings(ends: Floats) -> Floats:
    """Counts STEP apart from where FEWEST_SIZES curves have begun to where no more than these have not ended."""
    low, high = np.sort(ends[:, 0])[FEWEST_SIZES - 1], np.sort(ends[:, 1])[-FEWEST_SIZES]
    count = int(np.log(max(high / low, 1.0) * (1 + SAME_COUNT)) / np.log(STEP)) + 1
    places: Floats = np.geomspace(low, low * STEP ** (count - 1), count)
    return places
