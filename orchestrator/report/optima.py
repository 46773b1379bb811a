"""What the law `hyperparameters` says: the optimum of a cell, and the law's settings anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.coordinates import beta2_of, half_life_steps
from orchestrator.laws.result import FittedLaw, Floats
from orchestrator.numbers import number
from orchestrator.report.bands import Formula
from orchestrator.report.runs import CellView

HALF_LIFE = "beta2_half_life"
ONE_MINUS = "one_minus_beta2"


@dataclass(frozen=True, kw_only=True)
class OptimumSetting:
    """One setting of a cell's optimum. `edge` is 'low' or 'high' where it lies on an edge; `value` is then a bound."""

    value: float
    low: float | None = None
    high: float | None = None
    edge: str | None = None

    @property
    def text(self) -> str:
        """For a hover label."""
        if self.edge:
            return f"{'at most' if self.edge == 'low' else 'at least'} {number(self.value, 4)} (edge)"
        if self.low is None or self.high is None:
            return number(self.value, 4)
        return f"{number(self.value, 4)} ({number(self.low, 4)} to {number(self.high, 4)})"

    def through(self, function: Callable[[float], float], *, falling: bool = False) -> OptimumSetting:
        """The same optimum in another unit; `falling` where the function turns low into high."""
        low, high = (None if bound is None else function(bound) for bound in (self.low, self.high))
        if not falling:
            return OptimumSetting(value=function(self.value), low=low, high=high, edge=self.edge)
        edge = {"low": "high", "high": "low"}.get(self.edge or "")
        return OptimumSetting(value=function(self.value), low=high, high=low, edge=edge)


def optimum_setting(cell: CellView, setting: str) -> OptimumSetting | None:
    """A setting of the cell's optimum, beta2 also as half-life in tokens; None where it was not fitted."""
    if setting == ONE_MINUS:
        beta2 = optimum_setting(cell, "beta2")
        return beta2.through(lambda value: 1 - value, falling=True) if beta2 else None
    if setting == HALF_LIFE:
        beta2, batch = optimum_setting(cell, "beta2"), optimum_setting(cell, "batch_tokens")
        return beta2.through(lambda value: float(half_life_steps(value)) * batch.value) if beta2 and batch else None
    row = cell.optimum or {}
    if row.get(f"{setting}_edge"):
        return OptimumSetting(
            value=_nearest_tried(cell, setting, row[f"{setting}_centre"]), edge=row[f"{setting}_edge"]
        )
    if row.get(setting) is None:
        return None
    return OptimumSetting(value=row[setting], low=row.get(f"{setting}_low"), high=row.get(f"{setting}_high"))


def _nearest_tried(cell: CellView, setting: str, value: float) -> float:
    tried = [getattr(record, setting) for record in cell.records if getattr(record, setting) is not None]
    return float(min(max(value, min(tried)), max(tried)))


def power_law(setting: str, *, params: Floats | float, tokens: Floats | float) -> Formula:
    """Coefficient * params^params_exponent * tokens^tokens_exponent of one setting, for `bands.band`."""

    def formula(parameters: Mapping[str, Floats]) -> Floats:
        none = np.asarray(0.0)
        by_params = parameters.get(f"{setting}.params_exponent", none)
        by_tokens = parameters.get(f"{setting}.tokens_exponent", none)
        logs = by_params * np.log(params) + by_tokens * np.log(tokens)
        return np.asarray(parameters[f"{setting}.coefficient"] * np.exp(logs))

    return formula


def law_setting(law: FittedLaw | None, setting: str, *, params: float, tokens: float) -> float | None:
    """The law's value of a setting at a cell; beta2 from its half-life and the law's batch."""
    if law is None:
        return None
    values = {name: np.asarray(estimate.value) for name, estimate in law.parameters.items()}

    def at(name: str) -> float | None:
        known = f"{name}.coefficient" in values
        return float(power_law(name, params=params, tokens=tokens)(values)) if known else None

    if setting != "beta2":
        return at(setting)
    rest, half_life, batch = at(ONE_MINUS), at(HALF_LIFE), at("batch_tokens")
    if rest is not None:
        return 1 - rest
    return beta2_of(half_life / batch) if half_life is not None and batch is not None else None
