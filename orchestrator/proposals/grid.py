"""Points of a regular grid over a space."""

from __future__ import annotations

import itertools
import math

from search_spaces.axis import Axis, Fixed, PowersOfTwo
from search_spaces.plan import Search
from search_spaces.space import HyperParameters


def grid_point(search: Search, index: int) -> HyperParameters:
    """The index-th of the search's trials on the smallest regular grid that has so many points.

    Levels are spaced evenly in each axis' coordinate, ends included; the learning rate has the most.
    A grid larger than the number of trials is sampled at an even stride. Points repeat only where the
    space itself has fewer than there are trials.
    """
    axes = search.space.axes()
    counts = _level_counts(list(axes.values()), search.trials)
    levels = [_levels(axis, count) for axis, count in zip(axes.values(), counts, strict=True)]
    points = list(itertools.product(*levels))
    place = index * len(points) // search.trials % len(points)
    return search.space.at(dict(zip(axes, points[place], strict=True)))


def _level_counts(axes: list[Axis], wanted: int) -> list[int]:
    counts = [1] * len(axes)
    while math.prod(counts) < wanted:
        growing = [k for k, axis in enumerate(axes) if counts[k] < _most_levels(axis)]
        if not growing:
            break
        counts[min(growing, key=lambda k: (counts[k], k))] += 1
    return counts


def _most_levels(axis: Axis) -> float:
    if isinstance(axis, Fixed):
        return 1
    return len(axis.values()) if isinstance(axis, PowersOfTwo) else math.inf


def _levels(axis: Axis, count: int) -> list[float]:
    if count == 1:
        return [axis.centre]
    if isinstance(axis, PowersOfTwo):
        values = axis.values()
        return [values[round(k * (len(values) - 1) / (count - 1))] for k in range(count)]
    bottom = axis.coordinate(axis.low)
    return [axis.value(bottom + axis.span * k / (count - 1)) for k in range(count)]
