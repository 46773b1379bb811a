"""Which size is lowest at each compute: the lower envelope of the sizes' curves, in many samples at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from orchestrator.laws.allocation import Minima, lines
from orchestrator.laws.loss_points import LossPoints
from orchestrator.laws.result import Floats
from orchestrator.laws.size_curves import read, size_curves


@dataclass(frozen=True, kw_only=True)
class LowerEnvelope:
    """The lowest size at each compute: `size` (samples, computes) numbers the curves, smallest first, -1 for none.

    `log_flops` is (computes,); `ends` (sizes, 2) the first and the last compute at which each size has data.
    """

    log_flops: Floats
    minima: Minima
    size: npt.NDArray[np.intp]
    ends: npt.NDArray[np.intp]

    @cached_property
    def inner(self) -> npt.NDArray[np.bool_]:
        """Where the lowest size took over from one and is taken over by another, (samples, computes).

        Both at crossings: a step that begins or ends where a curve does is as long as the data, not as the truth.
        """
        samples, steps = np.nonzero(self.size[:, 1:] != self.size[:, :-1])
        before, after = self.size[samples, steps], self.size[samples, steps + 1]
        crossing = (before >= 0) & (after >= 0) & (self.ends[before, 1] > steps) & (self.ends[after, 0] <= steps)
        counts = np.zeros((3, len(self.size), len(self.ends)))
        np.add.at(counts[0], (samples, after), crossing)
        np.add.at(counts[1], (samples, before), crossing)
        for side in (before, after):
            np.add.at(counts[2], (samples, side), ~crossing)
        whole = (counts[0] > 0) & (counts[1] > 0) & (counts[2] == 0)
        found: npt.NDArray[np.bool_] = np.take_along_axis(whole, self.size, axis=1) & (self.size >= 0)
        return found

    @property
    def sizes(self) -> npt.NDArray[np.intp]:
        """The sizes whose steps are whole, in any sample."""
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
        ends = np.zeros((len(self.rows), 2), dtype=np.intp)
        for number, rows in enumerate(self.rows):
            tokens = read(self.points, rows, self.points.tokens, log_flops)
            at = np.flatnonzero(np.isfinite(tokens))
            ends[number] = at[[0, -1]] if at.size else -1
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
