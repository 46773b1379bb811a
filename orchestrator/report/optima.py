"""What the law `hyperparameters` says: the optimum of a cell, and the law's settings anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.report.style import number


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


def optimum_setting(row: Mapping[str, Any] | None, setting: str) -> OptimumSetting | None:
    """A setting in a row of the table of optima; None where it was not fitted."""
    if row is None or row.get(setting) is None:
        return None
    return OptimumSetting(
        value=row[setting], low=row.get(f"{setting}_low"), high=row.get(f"{setting}_high"), edge=row.get(f"{setting}_edge")
    )
