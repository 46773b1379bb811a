"""A predicted number with its two intervals, and the warnings that go with a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from orchestrator.laws.result import FittedLaw, Floats, Status

# How far outside the range that a law was fitted in counts as outside, as a factor: beyond rounding.
OUTSIDE = 1.01
# From this factor on, the law's own form is the larger doubt. A guess: the ladders that laws were held
# against span a factor of 5 (Step Law) to 100 (Porian et al.) in params.
FAR_OUTSIDE = 30.0
# Irrational steps that no whole numbers relate: the golden ratio's, and those of the plastic number
# (Roberts 2018, "The unreasonable effectiveness of quasirandom sequences").
_STEPS = (0.6180339887498949, 0.7548776662466927, 0.5698402909980532)


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """A value, the interval of the mean, and the wider one in which a single run falls.

    The latter is None for what does not vary from run to run: sizes and shapes.
    """

    value: float
    low: float | None = None
    high: float | None = None
    predictive_low: float | None = None
    predictive_high: float | None = None


@dataclass
class Notes:
    """Warnings, each once, in order, and the laws that a prediction rests on."""

    words: list[str] = field(default_factory=list)
    laws: dict[str, FittedLaw] = field(default_factory=dict)

    def add(self, text: str) -> None:
        """Note a warning unless it was noted."""
        if text not in self.words:
            self.words.append(text)

    def use(self, law: FittedLaw) -> None:
        """Note that the prediction rests on a law, and why that law is weak where it is."""
        self.laws[law.name] = law
        if law.status is Status.WEAK:
            self.add(f"the law {law.name!r} is weak: {law.reason}")

    def warn_range(self, sizes: Mapping[str, float]) -> None:
        """Note each size that lies outside of what the laws in use were fitted to, how far, and for which laws."""
        found: dict[str, list[str]] = {}
        farthest = 1.0
        for law in self.laws.values():
            for name, value in sizes.items():
                if name == "flops" and "params" in law.valid:
                    continue  # params and tokens say it
                farthest = max(farthest, _factor(value, law.valid.get(name)))
                words = _outside(name, value, law.valid.get(name))
                if words:
                    found.setdefault(words, []).append(repr(law.name))
        for words, names in found.items():
            self.add(f"{words} in the law{'s' * (len(names) > 1)} {' and '.join(names)}")
        if farthest > FAR_OUTSIDE:
            self.add(
                f"more than {FAR_OUTSIDE:g} times beyond what was measured, no interval knows whether the laws "
                "keep their form: train one run on the way there and compare"
            )


def predicted_interval(
    value: float, draws: Floats, single: Floats | None, confidence: float, *, widening: float = 1.0
) -> Predicted:
    """Percentiles of the draws, and of draws of a single run, around the point value.

    `widening` stretches both intervals about the value, in logarithms; see `widening_of`.
    """
    own = _span(value, draws, confidence, widening)
    if own is None:
        return Predicted(value=float(value))
    low, high = own
    one = None if single is None else _span(value, single, confidence, widening)
    if one is None:
        return Predicted(value=float(value), low=low, high=high)
    return Predicted(
        value=float(value), low=low, high=high, predictive_low=min(one[0], low), predictive_high=max(one[1], high)
    )


def _span(value: float, draws: Floats, confidence: float, widening: float) -> tuple[float, float] | None:
    finite = draws[np.isfinite(draws) & (draws > 0)]
    if finite.size < 2:
        return None
    ratios = np.quantile(finite, [(1 - confidence) / 2, (1 + confidence) / 2]) / value
    low, high = value * np.exp(np.clip(widening * np.log(ratios), -700, 700))
    return float(min(low, value)), float(max(high, value))


def widening_of(law: FittedLaw) -> float:
    """How much wider the law's own intervals are than the percentiles of its draws; at least 1.

    Draws of a bootstrap spread too little in small samples, and intervals are widened for it (Student's
    t); what is computed from the draws has to be widened alike. Read off the parameter with the
    relatively narrowest interval, where it does not matter in which scale it was made.
    """
    tails = [(1 - law.confidence) / 2, (1 + law.confidence) / 2]
    narrowest, factor = np.inf, 1.0
    for name, estimate in law.parameters.items():
        draws = law.draws.get(name, np.array([]))
        draws = draws[np.isfinite(draws)]
        if estimate.low is None or estimate.high is None or draws.size < 2 or estimate.value == 0:
            continue
        low, high = np.quantile(draws, tails)
        width = (estimate.high - estimate.low) / abs(estimate.value)
        if 0 < width < narrowest and high > low:
            narrowest, factor = width, (estimate.high - estimate.low) / (high - low)
    return float(max(factor, 1.0))


def normal_scores(count: int, dimension: int = 0) -> Floats:
    """Fixed standard normal numbers in a scrambled order, another for each dimension: predictions need no seed."""
    places = (np.arange(count) * _STEPS[dimension] + 0.5) % 1
    return np.asarray(stats.norm.ppf(np.clip(places, 0.5 / max(count, 1), 1 - 0.5 / max(count, 1))))


def _factor(value: float, valid: tuple[float, float] | None) -> float:
    """How many times beyond the range a value lies; 1 inside."""
    return 1.0 if valid is None else max(value / valid[1], valid[0] / value, 1.0)


def _outside(name: str, value: float, valid: tuple[float, float] | None) -> str:
    factor = _factor(value, valid)
    if valid is None or factor <= OUTSIDE:
        return ""
    if value > valid[1]:
        return f"{name} is {factor:.3g} times the largest used ({valid[1]:.3g})"
    return f"{name} is {factor:.3g} times below the smallest used ({valid[0]:.3g})"
