"""At how many steps each tuned curve reaches each of a set of loss levels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import isotonic_regression

from orchestrator.laws.batch_curves import BatchCurves, Ints
from orchestrator.laws.result import Floats

# Levels between the highest and the lowest loss, evenly in log loss; each size has those that it passes. A guess.
LEVELS = 16
# A hyperbola has two parameters; at fewer batch sizes a level says nothing about it.
FEWEST_BATCHES = 3


@dataclass(frozen=True, kw_only=True)
class LevelReadings:
    """Readings of steps at levels, each array (readings,), natural logs.

    `group` numbers the (size, level) pairs, `curve` and `size` are those of the curves. `slope` is
    -d log loss / d log steps there, one number for a group: it turns an error in steps into one in loss.
    """

    log_steps: Floats
    log_batch: Floats
    log_loss: Floats
    slope: Floats
    group: Ints
    curve: Ints
    size: Ints

    @property
    def groups(self) -> int:
        """Number of (size, level) pairs."""
        return int(self.group.max()) + 1

    @property
    def levels(self) -> int:
        """Number of distinct levels."""
        return len(np.unique(self.log_loss))

    @property
    def units(self) -> int:
        """Number of curves that are read."""
        return len(np.unique(self.curve))


def read_levels(curves: BatchCurves) -> LevelReadings | None:
    """The readings at all levels that three batch sizes of one size pass; None where there are none."""
    levels = _levels(curves)
    rows = []
    for number in range(curves.curves):
        mine = np.flatnonzero(curves.curve == number)
        if mine.size < 2:
            continue
        steps, slopes = _passed(curves, mine, levels)
        size, batch = curves.size[mine[0]], np.log(curves.batch_tokens[mine[0]])
        rows += [
            (size * LEVELS + at, number, size, batch, levels[at], steps[at], slopes[at])
            for at in np.flatnonzero(np.isfinite(steps))
        ]
    return _readings(np.array(rows).reshape(-1, 7))


def _levels(curves: BatchCurves) -> Floats:
    """Levels inside the range that three batch sizes of some size have in common."""
    tops, bottoms = [], []
    for size in range(curves.scales):
        mine = np.flatnonzero(curves.size == size)
        logs = [np.log(curves.loss[mine][curves.curve[mine] == number]) for number in np.unique(curves.curve[mine])]
        if len(logs) >= FEWEST_BATCHES:
            tops.append(sorted(log.max() for log in logs)[-FEWEST_BATCHES])
            bottoms.append(sorted(log.min() for log in logs)[FEWEST_BATCHES - 1])
    if not tops or max(tops) <= min(bottoms):
        return np.empty(0)
    margin = 0.02 * (max(tops) - min(bottoms))
    return np.linspace(max(tops) - margin, min(bottoms) + margin, LEVELS)


def _passed(curves: BatchCurves, mine: np.typing.NDArray[np.intp], levels: Floats) -> tuple[Floats, Floats]:
    """Log steps and slope at each level along the curve made monotone, NaN outside of it."""
    log_steps, log_loss = np.log(curves.steps[mine]), np.log(curves.loss[mine])
    monotone = isotonic_regression(log_loss, increasing=False)
    ends = monotone.blocks
    places = np.array([log_steps[low:high].mean() for low, high in pairwise(ends)])
    heights = monotone.x[ends[:-1]]
    if places.size < 2:
        return np.full(levels.size, np.nan), np.full(levels.size, np.nan)
    slopes = -np.gradient(heights, places)
    down = slice(None, None, -1)
    steps = np.interp(levels, heights[down], places[down], left=np.nan, right=np.nan)
    return steps, np.interp(levels, heights[down], slopes[down])


def _readings(rows: Floats) -> LevelReadings | None:
    group, counts = np.unique(rows[:, 0], return_inverse=True, return_counts=True)[1:]
    kept = rows[counts[group] >= FEWEST_BATCHES]
    if not kept.size:
        return None
    group = np.unique(kept[:, 0], return_inverse=True)[1]
    slopes = np.array([np.median(kept[group == number, 6]) for number in range(group.max() + 1)])
    return LevelReadings(
        log_steps=kept[:, 5],
        log_batch=kept[:, 3],
        log_loss=kept[:, 4],
        slope=slopes[group],
        group=group.astype(np.int64),
        curve=kept[:, 1].astype(np.int64),
        size=kept[:, 2].astype(np.int64),
    )
