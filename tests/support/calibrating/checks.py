"""Whether the intervals of one fitted law hold what was planted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.laws.predicted import Predicted, predicted_interval, widening_of
from orchestrator.laws.result import FittedLaw

Formula = Callable[[Mapping[str, object]], object]


class Kind(StrEnum):
    """What an interval is of."""

    PARAMETER = "parameter"
    PREDICTION = "prediction"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One interval: of what, and whether it held the truth."""

    kind: Kind
    name: str
    held: bool


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a law predicts outside of its data, and what is true there."""

    name: str
    told: Predicted
    truth: float


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a law should find: parameters, of which it may have fitted only some, and forecasts."""

    parameters: Mapping[str, float]
    forecasts: tuple[Forecast, ...] = ()


def checks(law: FittedLaw, truth: Truth) -> list[Check]:
    """A check for each parameter that was fitted and each forecast. An interval without an end holds nothing."""
    found = []
    for name, value in truth.parameters.items():
        estimate = law.parameters.get(name)
        if estimate is not None:
            held = _inside(value, estimate.low, estimate.high)
            found.append(Check(kind=Kind.PARAMETER, name=name, held=held))
    for each in truth.forecasts:
        held = _inside(each.truth, each.told.low, each.told.high)
        found.append(Check(kind=Kind.PREDICTION, name=each.name, held=held))
    return found


def forecast(law: FittedLaw, name: str, formula: Formula, truth: float) -> Forecast:
    """What the law says of a quantity that is a formula of its parameters, made as `predict` makes it."""
    values = {parameter: estimate.value for parameter, estimate in law.parameters.items()}
    told = predicted_interval(
        float(formula(values)), formula(law.draws), None, law.confidence, widening=widening_of(law)
    )
    return Forecast(name=name, told=told, truth=float(truth))


def _inside(value: float, low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and low <= value <= high
