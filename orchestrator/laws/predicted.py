"""A predicted number with its two intervals, and the warnings that go with a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from orchestrator.laws.result import FittedLaw, Floats, Status

# How far outside the range that a law was fitted in counts as outside, as a factor: beyond rounding.
OUTSIDE = 1.01


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """A value, the interval of the mean, and the wider one in which a single run falls."""

    value: float
    low: float | None = None
    high: float | None = None
    predictive_low: float | None = None
    predictive_high: float | None = None


@dataclass
class Notes:
    """Warnings, each once, in order."""

    words: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Note a warning unless it was noted."""
        if text not in self.words:
            self.words.append(text)


def predicted_interval(value: float, draws: Floats, single: Floats | None, confidence: float) -> Predicted:
    """Percentiles of the draws, and of draws of a single run, around the point value."""
    finite = draws[np.isfinite(draws)]
    if finite.size < 2:
        return Predicted(value=float(value))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(finite, tails)
    if single is None:
        return Predicted(value=float(value), low=float(min(low, value)), high=float(max(high, value)))
    one_low, one_high = np.quantile(single[np.isfinite(single)], tails)
    return Predicted(
        value=float(value),
        low=float(min(low, value)),
        high=float(max(high, value)),
        predictive_low=float(min(one_low, low, value)),
        predictive_high=float(max(one_high, high, value)),
    )


def normal_scores(count: int) -> Floats:
    """Fixed standard normal numbers in a scrambled order: predictions need no seed."""
    places = (np.arange(count) * 0.6180339887498949 + 0.5) % 1
    return np.asarray(stats.norm.ppf(np.clip(places, 0.5 / max(count, 1), 1 - 0.5 / max(count, 1))))


def warn_weak(law: FittedLaw, notes: Notes) -> None:
    """Note that a law is weak, and why."""
    if law.status is Status.WEAK:
        notes.add(f"the law {law.name!r} is weak: {law.reason}")


def warn_range(law: FittedLaw, sizes: Mapping[str, float], notes: Notes) -> None:
    """Note each size that lies outside of what the law was fitted to, and how far."""
    for name, value in sizes.items():
        if name not in law.valid:
            continue
        low, high = law.valid[name]
        if value > high * OUTSIDE:
            notes.add(f"{name} is {value / high:.3g} times the largest used ({high:.3g}) in the law {law.name!r}")
        elif value * OUTSIDE < low:
            notes.add(f"{name} is {low / value:.3g} times below the smallest used ({low:.3g}) in the law {law.name!r}")
