"""A search space as Optuna distributions, and settings as Optuna parameters, and back.

Parameters are the axes' own coordinates, where steps of equal size matter about equally: natural
logarithms for the learning rate and beta2, the whole exponent of two for the batch size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from search_spaces.axis import Axis, Fixed, PowersOfTwo
from search_spaces.space import HyperParameters, SearchSpace


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """One distribution an axis that is searched; fixed axes have none."""
    return {name: _distribution(axis) for name, axis in space.axes().items() if not isinstance(axis, Fixed)}


def to_params(space: SearchSpace, settings: HyperParameters) -> dict[str, float]:
    """Settings as parameters of `distributions(space)`, the nearest inside them."""
    return {
        name: _param(axis, getattr(settings, name))
        for name, axis in space.axes().items()
        if not isinstance(axis, Fixed)
    }


def to_settings(space: SearchSpace, params: Mapping[str, float]) -> HyperParameters:
    """The point of the space at parameters of `distributions(space)`, rounded as the axes do."""
    values = {
        name: axis.low if isinstance(axis, Fixed) else axis.value(_coordinate(axis, params[name]))
        for name, axis in space.axes().items()
    }
    return space.at(values)


def _distribution(axis: Axis) -> BaseDistribution:
    if isinstance(axis, PowersOfTwo):
        return IntDistribution(_exponent(axis.low), _exponent(axis.high))
    return FloatDistribution(axis.coordinate(axis.low), axis.coordinate(axis.high))


def _param(axis: Axis, value: float) -> float:
    inside = min(max(value, axis.low), axis.high)
    return _exponent(inside) if isinstance(axis, PowersOfTwo) else axis.coordinate(inside)


def _coordinate(axis: Axis, param: float) -> float:
    return param * math.log(2) if isinstance(axis, PowersOfTwo) else param


def _exponent(value: float) -> int:
    return round(math.log2(value))
