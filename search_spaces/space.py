"""What may be tried at one scale: three axes and the points between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from search_spaces.axis import Axis, Fixed, PowersOfTwo
from search_spaces.errors import InputError


@dataclass(frozen=True, kw_only=True)
class HyperParameters:
    """The settings of one trial. batch_size is in sequences."""

    learning_rate: float
    batch_size: int
    beta2: float

    def __post_init__(self) -> None:
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise InputError(f"learning_rate is {self.learning_rate:g}; it must be a finite number above 0")
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}; it must be at least 1 sequence")
        if not 0 <= self.beta2 < 1:
            raise InputError(f"beta2 is {self.beta2:g}; it must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The three axes of a search. batch_size is in whole sequences: a PowersOfTwo or a Fixed."""

    learning_rate: Axis
    batch_size: Axis
    beta2: Axis

    def __post_init__(self) -> None:
        batch = self.batch_size
        if not isinstance(batch, PowersOfTwo | Fixed) or batch.low != int(batch.low):
            raise InputError(
                f"batch_size is {batch}; give powers of two or one whole number, so that every horizon is a "
                "whole number of batches"
            )
        for end in ("low", "high"):
            HyperParameters(
                learning_rate=getattr(self.learning_rate, end),
                batch_size=int(getattr(batch, end)),
                beta2=getattr(self.beta2, end),
            )

    def axes(self) -> Mapping[str, Axis]:
        """The axes by the name of their setting."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def at(self, values: Mapping[str, float]) -> HyperParameters:
        """The nearest point of the space to values by the names of the axes.

        Raises InputError where a value is missing.
        """
        missing = [name for name in self.axes() if name not in values]
        if missing:
            raise InputError(f"a point of the space needs {', '.join(missing)} too; got {sorted(values)}")
        snapped = {name: axis.value(axis.coordinate(values[name])) for name, axis in self.axes().items()}
        return HyperParameters(
            learning_rate=snapped["learning_rate"],
            batch_size=int(snapped["batch_size"]),
            beta2=snapped["beta2"],
        )

    @property
    def centre(self) -> HyperParameters:
        """The point in the middle of every axis."""
        return self.at({name: axis.centre for name, axis in self.axes().items()})

    def validate(self, point: HyperParameters) -> None:
        """Raises InputError, naming the setting, where the point lies outside."""
        for name, axis in self.axes().items():
            value = getattr(point, name)
            if not axis.contains(value):
                raise InputError(f"{name} is {value:g}; the space has {axis.low:g} to {axis.high:g}")

    def edges(self, point: HyperParameters) -> tuple[str, ...]:
        """The names of the settings that lie on an edge of the space."""
        return tuple(name for name, axis in self.axes().items() if axis.at_edge(getattr(point, name)))

    def narrow(self, centre: HyperParameters, fraction: float) -> SearchSpace:
        """A space around a centre, each axis a fraction as long."""
        around = {name: axis.narrow(getattr(centre, name), fraction) for name, axis in self.axes().items()}
        return replace(self, **around)

    def widen(self, names: tuple[str, ...], fraction: float) -> SearchSpace:
        """The named axes made longer at both ends by a fraction of their span."""
        return replace(self, **{name: self.axes()[name].widen(fraction) for name in names})
