"""The form of the loss surface and its derivatives, in the parameters that `surface` fits.

theta: floors (cells,), centres (cells, k) cell by cell, then what all cells share: log diagonal of L,
its part below the diagonal row by row, the skew. See `surface` for the formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

from orchestrator.laws.result import Floats

Ints = npt.NDArray[np.int64]


MOST_EXPONENT = 20.0  # of the skew's exponential: far beyond any run that counts


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Runs: coordinates (n, k), learning rate first; log loss (n,); numbers of cell and run (n,).

    `stretch` (n,) says how many times steeper than the pooled one the surface of the run's cell is;
    `total` is the number of cells where the last ones have no runs.
    """

    coordinates: Floats
    log_loss: Floats
    cell: Ints
    run: Ints
    stretch: Floats | float = 1.0
    total: int | None = None

    @property
    def cells(self) -> int:
        """Number of cells."""
        return int(self.cell.max()) + 1 if self.total is None else self.total

    @property
    def settings(self) -> int:
        """Number of coordinates."""
        return int(self.coordinates.shape[1])

    @cached_property
    def places(self) -> tuple[Ints, Ints]:
        """Columns of the Jacobian, row by row (floor, centre, shared parameters), with where each row begins."""
        first = self.cells + self.settings * self.cells
        shared = first + np.arange(pooled_size(self.settings))
        columns = np.column_stack(
            [
                self.cell,
                self.cells + self.settings * self.cell[:, None] + np.arange(self.settings),
                np.broadcast_to(shared, (self.cell.size, shared.size)),
            ]
        )
        return columns.ravel(), np.arange(self.cell.size + 1) * columns.shape[1]


def pooled_size(settings: int) -> int:
    """How many parameters all cells share."""
    return settings + settings * (settings - 1) // 2 + 1


@cache
def _below(settings: int) -> tuple[Ints, Ints]:
    """Where a lower triangular matrix has numbers below its diagonal."""
    rows, columns = np.tril_indices(settings, -1)
    return rows, columns


def factor_of(pooled: Floats, settings: int) -> Floats:
    """L, lower triangular, from the shared parameters."""
    lower = np.diag(np.exp(pooled[:settings]))
    lower[_below(settings)] = pooled[settings:-1]
    return np.asarray(lower)


def warp(offset: Floats, skew: float) -> Floats:
    """sign(u) sqrt(2 (exp(k u) - 1 - k u)) / |k|, which is u to first order. Exponents are capped at 20."""
    place = _capped(skew * offset)
    small, large = _apart(place)
    ratio = 2 * (np.expm1(large) - large) / large**2
    return np.asarray(offset * np.sqrt(np.where(small, 1 + place / 3 + place**2 / 12, ratio)))


def _warp_slopes(offset: Floats, skew: float) -> tuple[Floats, Floats]:
    """Derivatives of `warp` by offset and by skew: it is u f(k u), and f(p)^2 = 2 (exp(p) - 1 - p) / p^2."""
    place = _capped(skew * offset)
    small, large = _apart(place)
    grown = np.expm1(large)
    rest = grown - large
    factor = np.sqrt(np.where(small, 1 + place / 3 + place**2 / 12, 2 * rest / large**2))
    slope = np.where(small, 1 / 3 + place / 6, 2 * (large * grown - 2 * rest) / large**3) / (2 * factor)
    slope[np.abs(skew * offset) > MOST_EXPONENT] = 0.0
    return factor + place * slope, offset**2 * slope


def _capped(exponent: Floats) -> Floats:
    return np.minimum(np.maximum(exponent, -MOST_EXPONENT), MOST_EXPONENT)


def _apart(place: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Which exponents are small enough for a series, and the exponents with 1 in place of those."""
    small = np.abs(place) < 1e-3
    return small, np.where(small, 1.0, place)


def predicted_excess(data: Observations, theta: Floats) -> Floats:
    """q(u) of each run, (n,)."""
    cells, settings = data.cells, data.settings
    pooled = theta[-pooled_size(settings) :]
    centre = theta[cells : cells + cells * settings].reshape(cells, settings)
    warped = data.coordinates - centre[data.cell]
    warped[:, 0] = warp(warped[:, 0], float(pooled[-1]))
    return np.asarray(data.stretch * 0.5 * ((warped @ factor_of(pooled, settings)) ** 2).sum(axis=1))


def jacobian_of(data: Observations, theta: Floats, scale: Floats) -> sparse.csr_array:
    """d(predicted log loss) / d(theta) with each row times `scale` (n,), (n, parameters)."""
    cells, settings, count = data.cells, data.settings, data.log_loss.size
    pooled = theta[-pooled_size(settings) :]
    factor, skew = factor_of(pooled, settings), float(pooled[-1])
    warped = data.coordinates - theta[cells : cells + cells * settings].reshape(cells, settings)[data.cell]
    by_offset, by_skew = _warp_slopes(warped[:, 0], skew)
    warped[:, 0] = warp(warped[:, 0], skew)
    projected = warped @ factor
    slope = projected @ factor.T
    rows, columns = _below(settings)
    blocks = [
        np.ones((count, 1)),
        -slope * np.column_stack([by_offset, np.ones((count, settings - 1))]),
        warped * projected * np.exp(pooled[:settings]),
        warped[:, rows] * projected[:, columns],
        (slope[:, 0] * by_skew)[:, None],
    ]
    values = np.column_stack(blocks)
    values[:, 1:] *= np.reshape(data.stretch, (-1, 1))
    values *= scale[:, None]
    return sparse.csr_array((values.ravel(), *data.places), shape=(count, theta.size))
