"""One setting's range, and the coordinate in which it is searched.

An axis maps a value to a coordinate (a natural logarithm) and back. Searching, narrowing, widening
and telling an edge are all done in the coordinate, where steps of equal size matter about equally.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

from search_spaces.errors import InputError

# A point this close to a bound, as a part of the axis in its coordinate, lies on the edge: an optimum
# there may as well lie outside. A guess: half the spacing of a ten-point grid.
EDGE_FRACTION = 0.05
# Settings keep this many significant digits, so that a name shows the whole value and a fit repeated
# on another processor proposes the same trial.
SIGNIFICANT_DIGITS = 4
# A number below one comes no closer to one than this when a range is widened: the sixteen digits of a float
# then still hold 1 - value to SIGNIFICANT_DIGITS, and no optimizer averages over more steps.
_CLOSEST_TO_ONE = 1e-8


def round_significant(value: float, digits: int = SIGNIFICANT_DIGITS) -> float:
    """The value to so many significant decimal digits."""
    return float(f"{value:.{digits - 1}e}")


@dataclass(frozen=True)
class _Range:
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise InputError(f"the range is {self.low:g} to {self.high:g}; both must be finite numbers")
        self._check()
        if not self.low < self.high:
            raise InputError(
                f"low is {self.low:g} and high is {self.high:g}; low must be below high (a single value is fixed)"
            )

    def _check(self) -> None:
        if not (self.low > 0 and self.high > 0):
            raise InputError(f"the range is {self.low:g} to {self.high:g}; both must be above 0")

    def coordinate(self, value: float) -> float:
        """The value's place on the axis: a natural logarithm that rises with the value."""
        return math.log(value)

    def value(self, coordinate: float) -> float:
        """The inverse of `coordinate`, kept inside the range and to four significant digits."""
        return min(max(round_significant(math.exp(coordinate)), self.low), self.high)

    @property
    def span(self) -> float:
        """Length of the axis in its coordinate."""
        return self.coordinate(self.high) - self.coordinate(self.low)

    @property
    def centre(self) -> float:
        """The value in the middle of the axis, by its coordinate."""
        return self.value((self.coordinate(self.high) + self.coordinate(self.low)) / 2)

    def contains(self, value: float) -> bool:
        """Whether the value may be tried."""
        return self.low <= value <= self.high

    def at_edge(self, value: float) -> bool:
        """Whether the value lies within EDGE_FRACTION of a bound, or outside."""
        if not self.contains(value):
            return True
        margin = EDGE_FRACTION * self.span
        place = self.coordinate(value)
        return place < self.coordinate(self.low) + margin or place > self.coordinate(self.high) - margin

    def widen(self, fraction: float) -> Self:
        """Both ends moved outwards by a fraction of the span; never inwards by rounding."""
        step = fraction * self.span
        wider = self._between(self.coordinate(self.low) - step, self.coordinate(self.high) + step)
        return replace(self, low=min(self.low, wider.low), high=max(self.high, wider.high))

    def narrow(self, centre: float, fraction: float) -> Self:
        """A range around a centre, a fraction of the span long, kept inside this one."""
        half = fraction * self.span / 2
        bottom, top = self.coordinate(self.low), self.coordinate(self.high)
        middle = min(max(self.coordinate(centre), bottom + half), top - half)
        inside = self._between(max(bottom, middle - half), min(top, middle + half))
        return replace(self, low=max(self.low, inside.low), high=min(self.high, inside.high))

    def _between(self, bottom: float, top: float) -> Self:
        return replace(self, low=round_significant(math.exp(bottom)), high=round_significant(math.exp(top)))


@dataclass(frozen=True)
class LogUniform(_Range):
    """A positive number, searched by its logarithm: the learning rate."""


@dataclass(frozen=True)
class PowersOfTwo(_Range):
    """A whole power of two, searched by its logarithm: the batch size in sequences."""

    def _check(self) -> None:
        for bound in (self.low, self.high):
            if bound < 1 or bound != int(bound) or int(bound) & (int(bound) - 1):
                raise InputError(f"{bound:g} is not a power of two; give 1, 2, 4, 8, ...")

    def value(self, coordinate: float) -> float:
        """The nearest power of two inside the range."""
        exponent = round(coordinate / math.log(2))
        return min(max(2.0**exponent, self.low), self.high)

    def contains(self, value: float) -> bool:
        """Whether the value is a power of two inside the range."""
        return value in self.values()

    def values(self) -> tuple[float, ...]:
        """All the values that may be tried, rising."""
        first, last = round(math.log2(self.low)), round(math.log2(self.high))
        return tuple(2.0**k for k in range(first, last + 1))

    def at_edge(self, value: float) -> bool:
        """Whether the value is the first or the last one, or outside."""
        return not self.low < value < self.high

    def _between(self, bottom: float, top: float) -> Self:
        low = 2.0 ** max(0, math.floor(bottom / math.log(2) + 1e-9))
        high = 2.0 ** math.ceil(top / math.log(2) - 1e-9)
        return replace(self, low=low, high=max(high, 2 * low))


@dataclass(frozen=True)
class OneMinusLog(_Range):
    """A number below one, searched by -log(1 - value): AdamW's beta2."""

    def _check(self) -> None:
        if not 0 <= self.low <= self.high < 1:
            raise InputError(f"the range is {self.low:g} to {self.high:g}; both must be in [0, 1)")

    def coordinate(self, value: float) -> float:
        """-log(1 - value): the logarithm of the averaging length in steps."""
        return -math.log1p(-value)

    def value(self, coordinate: float) -> float:
        """The inverse of `coordinate`, kept inside the range, 1 - value to four significant digits."""
        inside = 1 - round_significant(math.exp(-coordinate))
        return min(max(round(inside, 12), self.low), self.high)

    def _between(self, bottom: float, top: float) -> Self:
        def back(coordinate: float) -> float:
            gap = min(max(math.exp(-coordinate), _CLOSEST_TO_ONE), 1.0)
            return round(1 - round_significant(gap), 12)

        return replace(self, low=back(bottom), high=back(top))


@dataclass(frozen=True)
class Fixed:
    """A setting that is not searched."""

    fixed: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.fixed):
            raise InputError(f"the fixed value is {self.fixed:g}; it must be a finite number")

    @property
    def low(self) -> float:
        """The fixed value."""
        return self.fixed

    @property
    def high(self) -> float:
        """The fixed value."""
        return self.fixed

    @property
    def centre(self) -> float:
        """The fixed value."""
        return self.fixed

    @property
    def span(self) -> float:
        """Zero: there is nothing to search."""
        return 0.0

    def coordinate(self, value: float) -> float:
        """Zero for every value."""
        return 0.0

    def value(self, coordinate: float) -> float:
        """The fixed value, whatever the coordinate."""
        return self.fixed

    def contains(self, value: float) -> bool:
        """Whether the value is the fixed one."""
        return value == self.fixed

    def at_edge(self, value: float) -> bool:
        """Never: a fixed setting has no edge."""
        return False

    def widen(self, fraction: float) -> Self:
        """Itself."""
        return self

    def narrow(self, centre: float, fraction: float) -> Self:
        """Itself."""
        return self


Axis = LogUniform | PowersOfTwo | OneMinusLog | Fixed
