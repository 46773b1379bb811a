"""Tuned loss curves against steps, one for each size at each batch size.

What the laws of batch size start from. Runs of one (size, batch size) that differ in their settings
give the lower envelope: the tuned run. Runs that differ in their seed alone are averaged first. The
minimum over few settings is not quite tuned, and over many it is a little lucky: both count as a
curve's own error, so the curve is the exchangeable unit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.laws.loss_points import DECAYING
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Exclusion, Floats
from orchestrator.laws.selection import SHORTEST_READING, WARMUPS, cluster_numbers, select
from search_spaces.errors import FitError

Ints = npt.NDArray[np.int64]

CURVE_COLUMNS = ("params", "tokens", "batch_tokens", "loss")
# Points of a curve, evenly in log steps; a curve's points share its error, so that more add little. A guess.
POINTS_PER_CURVE = 12
# All curves together: many curves have fewer points each, at least FEWEST_PER_CURVE. A guess, it bounds time.
MOST_POINTS, FEWEST_PER_CURVE = 3000, 4


@dataclass(frozen=True, kw_only=True)
class BatchCurves:
    """Points of tuned curves, each array (points,), in rising steps inside a curve.

    `curve` numbers the (size, batch size) pairs, `size` the sizes. `count` is the column that N is.
    """

    params: Floats
    batch_tokens: Floats
    steps: Floats
    loss: Floats
    curve: Ints
    size: Ints
    count: str
    runs: int
    excluded: tuple[Exclusion, ...] = ()

    @property
    def curves(self) -> int:
        """Number of exchangeable units."""
        return int(self.curve.max()) + 1

    @property
    def scales(self) -> int:
        """Number of distinct sizes."""
        return int(self.size.max()) + 1

    @property
    def valid(self) -> dict[str, tuple[float, float]]:
        """The range of each quantity."""
        quantities = {
            self.count: self.params,
            "steps": self.steps,
            "batch_tokens": self.batch_tokens,
            "tokens": self.steps * self.batch_tokens,
            "loss": self.loss,
        }
        return {name: (float(values.min()), float(values.max())) for name, values in quantities.items()}


def batch_curves(records: Sequence[RunRecord], *, law: str) -> BatchCurves:
    """The tuned curves. Raises MissingColumnError, or FitError where nothing is usable.

    Points within two warmups, or below 1/32 of their run's tokens, are left out: they follow no law.
    Of a run whose learning rate decays only the end counts. N is non_embedding_params where every
    point has it, else params. Steps are tokens / batch_tokens where there is no column of them.
    """
    selection = select(records, CURVE_COLUMNS, law=law)
    used = _settled(selection.used)
    if not used:
        raise FitError(f"the law {law!r} found no usable point among {len(records)}; see the runs left out")
    count = "non_embedding_params" if all(record.non_embedding_params for record in used) else "params"
    params, batches = _column(used, count), _column(used, "batch_tokens")
    size, batch = cluster_numbers(list(params)), cluster_numbers(list(batches))
    cells: dict[tuple[int, int], list[int]] = defaultdict(list)
    for at, cell in enumerate(zip(size.tolist(), batch.tolist(), strict=True)):
        cells[cell].append(at)
    most = max(FEWEST_PER_CURVE, min(POINTS_PER_CURVE, MOST_POINTS // len(cells)))
    curves = [_tuned([used[at] for at in rows], most) for _, rows in sorted(cells.items())]
    lengths = [steps.size for steps, _ in curves]
    centres = [(np.median(params[rows]), np.median(batches[rows])) for _, rows in sorted(cells.items())]
    kept = {record.run_id for record in used}
    warming = sorted({record.run_id for record in selection.used} - kept)
    return BatchCurves(
        params=np.repeat([centre[0] for centre in centres], lengths),
        batch_tokens=np.repeat([centre[1] for centre in centres], lengths),
        steps=np.concatenate([steps for steps, _ in curves]),
        loss=np.concatenate([losses for _, losses in curves]),
        curve=np.repeat(np.arange(len(curves)), lengths),
        size=np.repeat([size for size, _ in sorted(cells)], lengths),
        count=count,
        runs=len(kept),
        excluded=selection.excluded + tuple(Exclusion(run=run, reason="it ends within two warmups") for run in warming),
    )


def _column(records: Sequence[RunRecord], column: str) -> Floats:
    return np.array([getattr(record, column) for record in records], float)


def _settled(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Without the points that remember the warmup, and those inside runs whose learning rate decays."""
    longest = {record.run_id: record.tokens or 0.0 for record in records}
    kept = []
    for record in records:
        end, tokens = longest[record.run_id], record.tokens or 0.0
        early = tokens < max(WARMUPS * (record.warmup_tokens or 0.0), SHORTEST_READING * end)
        if not early and (record.schedule not in DECAYING or tokens == end):
            kept.append(record)
    return kept


def _tuned(records: Sequence[RunRecord], most: int) -> tuple[Floats, Floats]:
    """Steps and loss of the lower envelope over the settings of one size and batch size."""
    runs: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        runs[record.run_id].append(record)
    steps = {run: np.log([_steps(point) for point in points]) for run, points in runs.items()}
    losses = {run: np.log(_column(points, "loss")) for run, points in runs.items()}
    grid = _thinned(np.unique(np.concatenate(list(steps.values()))), most)
    read = {run: np.interp(grid, steps[run], losses[run], left=np.nan, right=np.nan) for run in runs}
    alike: dict[object, list[Floats]] = defaultdict(list)
    for run, points in runs.items():
        alike[_settings(points[0])].append(read[run])
    levels = np.stack([_mean(group) for group in alike.values()])
    lowest = np.where(np.isfinite(levels), levels, np.inf).min(axis=0)
    ended = np.array([np.where(grid > steps[run][-1], losses[run][-1], np.inf) for run in runs]).min(axis=0)
    kept = np.isfinite(lowest) & (lowest < ended)  # beyond the end of a better run a worse one says nothing
    return np.exp(grid[kept]), np.exp(lowest[kept])


def _steps(record: RunRecord) -> float:
    return record.steps or (record.tokens or 0.0) / (record.batch_tokens or 1.0)


def _settings(record: RunRecord) -> object:
    """What runs share that differ in their seed alone; a run without a learning rate stands for itself."""
    return record.run_id if record.learning_rate is None else (record.learning_rate, record.beta2)


def _mean(group: Sequence[Floats]) -> Floats:
    """Mean over the runs that reach each place, NaN where none does."""
    rows = np.stack(group)
    there = np.isfinite(rows)
    total = np.where(there, rows, 0.0).sum(axis=0)
    mean: Floats = np.where(there.any(axis=0), total / np.maximum(there.sum(axis=0), 1), np.nan)
    return mean


def _thinned(grid: Floats, most: int) -> Floats:
    if grid.size <= most:
        return grid
    nearest = [int(np.argmin(np.abs(grid - place))) for place in np.linspace(grid[0], grid[-1], most)]
    return np.asarray(grid[np.unique(nearest)])
