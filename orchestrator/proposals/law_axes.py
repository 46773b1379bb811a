"""Optuna's distributions of raw settings as axes in the laws' coordinates, and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from orchestrator.laws.coordinates import beta2_of, half_life_steps
from search_spaces.errors import InputError


def place_of(name: str, value: float) -> float:
    """The coordinate of a value; see orchestrator.laws.coordinates."""
    return math.log(half_life_steps(value)) if name == "beta2" else math.log(value)


def ends_of(distribution: BaseDistribution, name: str) -> tuple[float, float]:
    """The range of a setting in the laws' coordinates. Raises InputError where it has none."""
    if isinstance(distribution, CategoricalDistribution):
        numbers = [float(choice) for choice in distribution.choices if isinstance(choice, int | float)]
        if len(numbers) < len(distribution.choices):
            raise InputError(f"{name} may be {distribution.choices}; give numbers only")
        low, high = min(numbers), max(numbers)
    elif isinstance(distribution, FloatDistribution | IntDistribution):
        low, high = float(distribution.low), float(distribution.high)
    else:
        raise InputError(
            f"{name} has a {type(distribution).__name__}; give a float, an int or a categorical of numbers"
        )
    if not low > 0 or (name == "beta2" and not high < 1):
        raise InputError(
            f"{name} ranges from {low:g} to {high:g}; it must lie above 0{', below 1' * (name == 'beta2')}"
        )
    return place_of(name, low), place_of(name, high)


def value_at(distribution: BaseDistribution, name: str, place: float) -> Any:  # noqa: ANN401 - as Optuna has it
    """The value of the distribution nearest to a place."""
    value = beta2_of(math.exp(place)) if name == "beta2" else math.exp(place)
    if isinstance(distribution, CategoricalDistribution):
        return min(distribution.choices, key=lambda choice: abs(place_of(name, float(choice or 0)) - place))
    if isinstance(distribution, IntDistribution):
        steps = round((value - distribution.low) / distribution.step)
        return int(np.clip(distribution.low + steps * distribution.step, distribution.low, distribution.high))
    if isinstance(distribution, FloatDistribution):
        return float(np.clip(value, distribution.low, distribution.high))
    return value
