"""How far a law's exponent is off by its design alone: the law applied to a surface of known exponent.

Parabolas are a wrong picture of an asymmetric valley, a ladder has steps, a range of compute has ends:
such a law has a bias that no repetition removes. The loss surface through the table's own points has a
known exponent; what the law makes of the surface at the very same points, less that exponent, is the bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.laws.fitted_surface import FittedSurface
from orchestrator.laws.result import Estimate

# A larger bias of the exponent makes a law weak: at a hundredfold of the measured compute it is a fourth of the size.
# A guess.
MOST_BIAS = 0.05


@dataclass(frozen=True, kw_only=True)
class DesignBias:
    """What a law finds for the exponent `a` where `truth` is the surface's own; NaN where that is unknown."""

    found: float
    truth: float

    @classmethod
    def of(cls, found: float, surface: FittedSurface) -> DesignBias:
        """The bias of a law that finds this exponent on the surface."""
        return cls(found=found, truth=surface.size_exponent if surface.identified else np.nan)

    @property
    def value(self) -> float:
        """The bias of `a`."""
        return self.found - self.truth

    def rows(self, a: Estimate) -> list[dict[str, float | str]]:
        """One row, for people, with `a` less its bias; none where the bias is unknown."""
        if not np.isfinite(self.value):
            return []
        known = {
            "bias": self.value,
            "on_surface": self.found,
            "of_surface": self.truth,
            "unbiased": a.value - self.value,
        }
        return [{"parameter": "a", **known}]

    @property
    def weak(self) -> bool:
        """Whether the bias alone is a reason not to trust the law."""
        return abs(self.value) > MOST_BIAS

    def notes(self, a: Estimate) -> list[str]:
        """A sentence where the bias is larger than the standard error: the interval is not about the truth."""
        if a.stderr is None or not abs(self.value) > a.stderr:
            return []
        return [f"the design alone moves a by {self.value:+.2g}, more than its standard error of {a.stderr:.2g}"]
