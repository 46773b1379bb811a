"""Which size is lowest at each compute: the lower envelope of the sizes' curves, in many samples at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from orchestrator.laws.allocation import Minima, lines
from orchestrator.laws.loss_points import LossPoints
from orchestrator.laws.result import Floats
from orchestrator.laws.size_curves import read, size_curves


@dataclass(frozen=True, kw_only=True)
class LowerEnvelope:
    """The lowest size at each compute: `size` (samples, computes) numbers the curves, smallest first.

    `log_flops` is (computes,);
    `ends` (2, computes) the smallest and the largest size with data there, -1 where none has.
    """

    log_flops: Floats
    minima: Minima
    size: npt.NDArray[np.intp]
    ends: npt.NDArray[np.intp]

    @property
    def inner(self) -> npt.NDArray[np.bool_]:
        """Whether a smaller and a larger size have data too, (samples, computes)."""
        found: npt.NDArray[np.bool_] = (self.size > self.ends[0]) & (self.size < self.ends[1])
        return found

    @property
    def crossings(self) -> int:
        """How often, in the first sample, one inner size takes over from another that still has data."""
        size, (smallest, largest) = self.size[0], self.ends
        steps = self.inner[0, :-1] & self.inner[0, 1:] & (size[:-1] != size[1:])
        both = (size[:-1] > smallest[1:]) & (size[1:] < largest[:-1])
        return int((steps & both).sum())

    @property
    def sizes(self) -> npt.NDArray[np.intp]:
        """The sizes that are lowest between two others, in any sample."""
        return np.unique(self.size[self.inner])

    def laws(self) -> dict[str, Floats]:
        """The power laws through the inner minima of each sample, by parameter: (samples,)."""
        inner = Minima(
            log_params=np.where(self.inner, self.minima.log_params, np.nan),
            log_tokens=np.where(self.inner, self.minima.log_tokens, np.nan),
            log_loss=self.minima.log_loss,
        )
        return lines(self.log_flops, inner, np.ones((2, len(self.log_flops))))


@dataclass(frozen=True, kw_only=True)
class SizeCurves:
    """The curves of all sizes in one array of points; `rows` are those of each size, smallest first."""

    points: LossPoints
    rows: tuple[npt.NDArray[np.intp], ...]

    @classmethod
    def of(cls, points: LossPoints) -> SizeCurves:
        """The lowest loss of each size along its compute; sizes of a single point are left out."""
        curves = [curve for curve in size_curves(points) if len(curve.loss) > 1]
        if not curves:
            return cls(points=points, rows=())
        joined = LossPoints(
            **{name: np.concatenate([getattr(curve, name) for curve in curves]) for name in _ARRAYS},
            units=tuple(unit for curve in curves for unit in curve.units),
            excluded=points.excluded,
        )
        starts = np.cumsum([len(curve.loss) for curve in curves])[:-1]
        return cls(points=joined, rows=tuple(np.split(np.arange(len(joined.loss)), starts)))

    def with_loss(self, loss: Floats) -> SizeCurves:
        """The same curves with other losses, (points,)."""
        return replace(self, points=replace(self.points, loss=loss))

    def places(self, count: int) -> Floats:
        """So many log flops, evenly from the first point to the last."""
        logs = np.log(self.points.flops)
        return np.linspace(logs.min(), logs.max(), count)

    def envelope(self, log_flops: Floats, shifts: Floats) -> LowerEnvelope:
        """The envelope of each sample; `shifts` (samples, points) are added to the log losses."""
        shape = len(shifts), len(log_flops)
        lowest, log_tokens = np.full(shape, np.inf), np.full(shape, np.nan)
        size = np.full(shape, -1, dtype=np.intp)
        ends = np.full((2, len(log_flops)), -1)
        for number, rows in enumerate(self.rows):
            tokens = read(self.points, rows, self.points.tokens, log_flops)
            at = np.flatnonzero(np.isfinite(tokens))
            ends[0, at] = np.where(ends[0, at] < 0, number, ends[0, at])
            ends[1, at] = number
            log_loss = self._read(rows, log_flops[at], shifts)
            better = log_loss < lowest[:, at]
            lowest[:, at] = np.where(better, log_loss, lowest[:, at])
            log_tokens[:, at] = np.where(better, tokens[at], log_tokens[:, at])
            size[:, at] = np.where(better, number, size[:, at])
        log_params = np.where(size < 0, np.nan, np.log([self.points.params[rows[0]] for rows in self.rows])[size])
        minima = Minima(log_params=log_params, log_tokens=log_tokens, log_loss=lowest)
        return LowerEnvelope(log_flops=log_flops, minima=minima, size=size, ends=ends)

    def row_near(self, size: int, log_flops: float) -> int:
        """The row of a size's point that is nearest to this compute."""
        rows = self.rows[size]
        return int(rows[np.argmin(np.abs(np.log(self.points.flops[rows]) - log_flops))])

    def _read(self, rows: npt.NDArray[np.intp], log_flops: Floats, shifts: Floats) -> Floats:
        """Log losses of one size between its points in every sample, (samples, computes)."""
        logs, log_loss = np.log(self.points.flops[rows]), np.log(self.points.loss[rows])
        right = np.clip(np.searchsorted(logs, log_flops), 1, len(rows) - 1)
        part = (log_flops - logs[right - 1]) / (logs[right] - logs[right - 1])
        moved = log_loss + shifts[:, rows]
        between: Floats = (1 - part) * moved[:, right - 1] + part * moved[:, right]
        return between


_ARRAYS = ("params", "tokens", "flops", "loss")
