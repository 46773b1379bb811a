"""What a fit returns: parameters with intervals, joint draws, a status, and what was left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.errors import FitError

Floats = npt.NDArray[np.float64]


class Status(StrEnum):
    """Whether to trust a law. `reason` says why not."""

    OK = "ok"
    WEAK = "weak"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval (of the law's confidence) and standard error. None where unknown."""

    value: float
    low: float | None = None
    high: float | None = None
    stderr: float | None = None


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """A run that was not used, and why."""

    run: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class FittedLaw:
    """A fitted formula.

    `draws` has one array per parameter, all of one length: joint bootstrap draws, row by row.
    Prediction needs them, since the parameters are collinear. `valid` is the range of each quantity
    that the used runs cover. `tables` are the rows a person wants to see beside the law (per-cell
    optima, per-budget minima), each a list of plain mappings. Raises FitError where a parameter is not
    a finite number: such a fit is none.
    """

    name: str
    form: str
    parameters: Mapping[str, Estimate]
    draws: Mapping[str, Floats] = field(default_factory=dict)
    status: Status = Status.OK
    reason: str = ""
    confidence: float = 0.95
    valid: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    runs_used: int = 0
    runs_excluded: Sequence[Exclusion] = ()
    objective: float | None = None
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        broken = [name for name, estimate in self.parameters.items() if not math.isfinite(estimate.value)]
        if broken:
            raise FitError(f"the law {self.name!r} gave no finite {', '.join(broken)}; look for outliers in the losses")

    def value(self, parameter: str) -> float:
        """The point estimate of a parameter. Raises KeyError where the law has none of that name."""
        return self.parameters[parameter].value
