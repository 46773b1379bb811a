"""The lowest loss of each size along its compute, over all runs of that size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from orchestrator.laws.loss_points import LossPoints
from orchestrator.laws.resample import unit_indices
from orchestrator.laws.result import Floats
from orchestrator.laws.selection import MAX_POINTS_PER_RUN, cluster_numbers

Indices = npt.NDArray[np.intp]


def size_curves(points: LossPoints) -> tuple[LossPoints, ...]:
    """A curve a size, smallest first, by rising flops; `units` names the run that is lowest at each point.

    Several runs of a size are read log-log at MAX_POINTS_PER_RUN computes. Where no run of a size has a
    curve, its points are the ends of runs of their own: the lowest at each compute. The best of many runs
    is lucky by a part of the noise: give every size equally many.
    """
    size = cluster_numbers(points.params.tolist())
    return tuple(_size_curve(points, np.flatnonzero(size == number)) for number in range(int(size.max()) + 1))


def _size_curve(points: LossPoints, rows: Indices) -> LossPoints:
    unit = unit_indices([points.units[row] for row in rows])
    runs = [_distinct(points, rows[unit == number]) for number in range(int(unit.max()) + 1)]
    curves = [run for run in runs if len(run) > 1]
    if not curves:
        return points[_distinct(points, rows)]
    return points[curves[0]] if len(curves) == 1 else _lowest(points, curves)


def _distinct(points: LossPoints, rows: Indices) -> Indices:
    """Rows by rising flops, of equal ones the lowest."""
    ordered = rows[np.lexsort((points.loss[rows], points.flops[rows]))]
    return ordered[np.unique(points.flops[ordered], return_index=True)[1]]


def _lowest(points: LossPoints, curves: list[Indices]) -> LossPoints:
    ends = np.log([points.flops[rows[[0, -1]]] for rows in curves])
    places = np.linspace(ends[:, 0].min(), ends[:, 1].max(), MAX_POINTS_PER_RUN)
    losses = np.stack([read(points, rows, points.loss, places) for rows in curves])
    measured = np.isfinite(losses).any(axis=0)
    places, losses = places[measured], losses[:, measured]
    best = np.nanargmin(losses, axis=0)
    tokens = np.stack([read(points, rows, points.tokens, places) for rows in curves])
    at = best, np.arange(len(places))
    return LossPoints(
        params=np.full(len(places), float(np.median(points.params[np.concatenate(curves)]))),
        tokens=np.exp(tokens[at]),
        flops=np.exp(places),
        loss=np.exp(losses[at]),
        units=tuple(points.units[curves[number][0]] for number in best),
        excluded=points.excluded,
    )


def read(points: LossPoints, rows: Indices, values: Floats, log_flops: Floats) -> Floats:
    """Logs of a run's values between its points, log-log along flops; NaN before its first and after its last."""
    logs = np.log(points.flops[rows])
    return np.interp(log_flops, logs, np.log(values[rows]), left=np.nan, right=np.nan)
