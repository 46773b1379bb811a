"""Intervals that a law claims, beside the truth that they should hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.laws.loss_points import Parameters
from orchestrator.laws.predicted import Predicted, predicted_interval, widening_of
from orchestrator.laws.result import Estimate, FittedLaw, Floats


class Kind(StrEnum):
    """What an interval is of."""

    PARAMETER = "parameter"
    PREDICTION = "prediction"


@dataclass(frozen=True, kw_only=True)
class Check:
    """An interval and the truth. One without an end holds nothing."""

    kind: Kind
    name: str
    truth: float
    told: Estimate | Predicted

    @property
    def held(self) -> bool:
        """Whether the truth lies inside."""
        low, high = self.told.low, self.told.high
        return low is not None and high is not None and low <= self.truth <= high


def of_parameters(law: FittedLaw, planted: Mapping[str, float]) -> list[Check]:
    """A check for each planted parameter that the law has."""
    return [
        Check(kind=Kind.PARAMETER, name=name, truth=value, told=law.parameters[name])
        for name, value in planted.items()
        if name in law.parameters
    ]


def of_formula(
    law: FittedLaw, planted: Parameters, formulas: Mapping[str, Callable[[Parameters], Floats]]
) -> list[Check]:
    """A check for each formula of the parameters, its interval made as `predict` makes it."""
    values = {name: estimate.value for name, estimate in law.parameters.items()}
    widening = widening_of(law)
    found = []
    for name, formula in formulas.items():
        draws = formula(law.draws)
        told = predicted_interval(float(formula(values)), draws, None, law.confidence, widening=widening)
        found.append(Check(kind=Kind.PREDICTION, name=name, truth=float(formula(planted)), told=told))
    return found
