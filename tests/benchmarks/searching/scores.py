"""Figures of many searches with their intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from searching.runner import CellPath

CONFIDENCE = 0.95
# From the fourth cell on: the first three are there to learn a law from.
COUNTED_CELLS = range(3, 1000)
COLUMN_WIDTH = 19


@dataclass(frozen=True, kw_only=True)
class Score:
    """A mean over seeds with the half width of its Student's t interval; NaN for a single seed."""

    mean: float
    half_width: float

    def text(self, digits: int = 2) -> str:
        """As in 1.26 ± 0.05."""
        if math.isnan(self.half_width):
            return f"{self.mean:.{digits}f}"
        return f"{self.mean:.{digits}f} ± {self.half_width:.{digits}f}"


def score(values: Sequence[float]) -> Score:
    """Mean and interval of one value a seed."""
    count = len(values)
    if count < 2:
        return Score(mean=float(np.mean(values)), half_width=math.nan)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    return Score(mean=float(np.mean(values)), half_width=float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error)


def over_seeds(
    searches: Sequence[Sequence[CellPath]], figure: Callable[[CellPath], float], cells: range = COUNTED_CELLS
) -> Score:
    """A figure of a cell's path, averaged over those cells of a search, then over searches."""
    return score(of_each(searches, figure, cells))


def of_each(searches: Sequence[Sequence[CellPath]], figure: Callable[[CellPath], float], cells: range) -> list[float]:
    """The mean of a figure over those cells, for each search."""
    return [float(np.mean([figure(path) for path in paths if path.cell in cells])) for paths in searches]


def trials_to_find(path: CellPath) -> float:
    """Trials until the optimum was found; all of them where it was not."""
    return path.found_after or len(path.regrets)


def missed(path: CellPath) -> float:
    """100 where the optimum was not found, so that a mean is in %."""
    return 100.0 * (path.found_after is None)


def regret_after(trials: int) -> Callable[[CellPath], float]:
    """Regret in % of what was recommended after so many trials."""
    return lambda path: 100 * path.recommended[trials]


def line(*texts: str) -> str:
    """One line of a table, in columns of equal width; lines can be written as they come."""
    return "".join(text.ljust(COLUMN_WIDTH) for text in texts).rstrip() + "\n"
