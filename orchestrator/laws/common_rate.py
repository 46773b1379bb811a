"""Least squares for y = c_0 + sum_k s_k c_k exp(-rate x_k), exponentials of one common rate.

Variable projection: at a given rate the coefficients (none negative) are a small linear problem, so the
rate alone is searched, on a grid. A power of a quantity is an exponential of its logarithm.

Replicates are those of the wild cluster bootstrap (Cameron, Gelbach and Miller 2008): the fit plus each
unit's residuals times one random number. No point is ever missing, which five points for four parameters
could not bear; units may differ in noise, and points of a unit may share it. Residuals are first freed of
what the fit took from them: curves by CR2 (Bell and McCaffrey 2002), single points, whose own squares say
less, by HC3 (Long and Ervin 2000). The numbers follow Student's t. At a shared rate a unit enters a
replicate through a few sums alone.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, sparse

from orchestrator.laws.cluster_degrees import LEAST_OWN, cluster_degrees
from orchestrator.laws.exponent_grid import nonnegative_least_squares
from orchestrator.laws.resample import unit_indices
from orchestrator.laws.result import Floats

GRID = 48  # rates of the first look, in equal steps of their logarithm. A guess
FINE = 96  # rates of the second, over all that the replicates' first optima span. A guess
REWEIGHTINGS = 30
# A coefficient whose part of the mean value is below this is as good as none. A guess, as in varpro.py.
ABSENT = 1e-3
MANY_UNITS = 100  # from which on Student's t is as good as normal
# Exponents are cut off here: no law has such, and products of four still do not overflow.
MOST_EXPONENT = 150.0


@dataclass(frozen=True, kw_only=True)
class CommonRate:
    """The points of one fit: `exponents` x (terms, points), `values` (points,), `units` of the points.

    `signs` s (terms,) are 1 or -1. `rates` bounds the rate. A residual beyond `outlier` counts by its
    size, not by its square (Huber): below it the fit is plain least squares.
    """

    exponents: Floats
    values: Floats
    units: Sequence[Hashable]
    signs: tuple[int, ...]
    rates: tuple[float, float]
    outlier: float


@dataclass(frozen=True, kw_only=True)
class Rates:
    """One row a replicate: the rate (rows,), c_0 and c_k (rows, 1 + terms), and what lies on a bound."""

    rate: Floats
    coefficients: Floats
    rate_at_bound: npt.NDArray[np.bool_]
    absent: npt.NDArray[np.bool_]


class CommonRateFit:
    """The fit of one set of points: `best`, its `residuals` (points,), and `replicates` of it."""

    def __init__(self, problem: CommonRate) -> None:
        self._problem = problem
        centre = problem.exponents.mean(axis=1)
        self._centre, self._x = centre, problem.exponents - centre[:, None]
        self._unit = unit_indices(problem.units)
        self._mean = float(np.abs(problem.values).mean())
        self._weights = np.ones_like(problem.values)
        self.best = self._global_minimum()
        for _ in range(REWEIGHTINGS):
            self.residuals = problem.values - self._predicted()
            weights = problem.outlier / np.maximum(np.abs(self.residuals), problem.outlier)
            if np.allclose(weights, self._weights, atol=1e-6):
                break
            self._weights = weights
            self.best = self._global_minimum()

    def replicates(self, draws: int, seed: int, *, dof: float) -> Rates:
        """Fits to the prediction plus each unit's own residuals times a number from Student's t.

        It has `dof` degrees of freedom, or the fewer that few curves leave to the least known parameter.
        """
        dof = min(dof, self._degrees())
        rng = np.random.default_rng(seed)
        numbers = rng.standard_normal((draws, int(self._unit.max()) + 1))
        numbers *= np.sqrt(dof / rng.chisquare(dof, (draws, 1)))
        moved = _Moved(base=self._predicted(), residuals=self._own_residuals(), unit=self._unit, numbers=numbers)
        coarse = self._log_rates()
        lowest = np.argmin(self._profile(np.exp(coarse), moved)[0], axis=1)
        low, high = coarse[max(lowest.min() - 1, 0)], coarse[min(lowest.max() + 1, GRID - 1)]
        fine = np.linspace(low, high, FINE)
        return self._between_nodes(fine, *self._profile(np.exp(fine), moved))

    def _global_minimum(self) -> Rates:
        measured = _Moved.fixed(self._problem.values)
        nodes = self._log_rates()
        lowest = int(np.argmin(self._profile(np.exp(nodes), measured)[0][0]))
        found = optimize.minimize_scalar(
            lambda log_rate: float(self._profile(np.exp(np.array([log_rate])), measured)[0][0, 0]),
            bounds=(nodes[max(lowest - 1, 0)], nodes[min(lowest + 1, GRID - 1)]),
            method="bounded",
            options={"xatol": 1e-9},
        )
        log_rate = np.array([float(found.x)])
        return self._rates(log_rate, self._profile(np.exp(log_rate), measured)[1][:, 0])

    def _log_rates(self) -> Floats:
        low, high = self._problem.rates
        return np.linspace(np.log(low), np.log(high), GRID)

    def _profile(self, rates: Floats, moved: _Moved) -> tuple[Floats, Floats]:
        """Weighted squares left (rows, rates), and the coefficients of the centred terms (rows, rates, 1 + terms)."""
        designs = [self._design(rate) for rate in rates]
        weighted = [self._weights[:, None] * design for design in designs]
        grams = np.stack([design.T @ each for design, each in zip(designs, weighted, strict=True)])
        moments = moved.sums(np.concatenate(weighted, axis=1)).reshape(-1, len(rates), grams.shape[1])
        coefficients, explained = nonnegative_least_squares(
            np.broadcast_to(grams, (len(moments), *grams.shape)), moments
        )
        return moved.squares(self._weights)[:, None] - 2 * np.maximum(explained, 0.0), coefficients

    def _design(self, rate: float) -> Floats:
        terms = np.array(self._problem.signs)[:, None] * _exp(-rate * self._x)
        columns: Floats = np.concatenate([np.ones((1, terms.shape[1])), terms]).T
        return columns

    def _between_nodes(self, nodes: Floats, squares: Floats, coefficients: Floats) -> Rates:
        """The minimum of the parabola through the lowest node and its neighbours, and the coefficients there."""
        row = np.arange(len(squares))
        lowest = np.argmin(squares, axis=1)
        middle = np.clip(lowest, 1, len(nodes) - 2)
        left, here, right = (squares[row, middle + shift] for shift in (-1, 0, 1))
        bend = left - 2 * here + right
        inside = (lowest == middle) & (bend > 0)
        shift = np.where(inside, (left - right) / (2 * np.where(bend > 0, bend, 1.0)), lowest - middle)
        parts = np.stack([shift * (shift - 1) / 2, 1 - shift**2, shift * (shift + 1) / 2])
        around = np.stack([coefficients[row, middle + at] for at in (-1, 0, 1)])
        blended = np.maximum(np.einsum("sr,src->rc", parts, around), 0.0)
        return self._rates(nodes[middle] + shift * (nodes[1] - nodes[0]), blended)

    def _rates(self, log_rate: Floats, centred: Floats) -> Rates:
        low, high = np.log(self._problem.rates)
        near = 1e-3 * (high - low) / GRID
        coefficients = centred.copy()
        coefficients[:, 1:] *= _exp(np.exp(log_rate)[:, None] * self._centre)
        return Rates(
            rate=np.exp(log_rate),
            coefficients=coefficients,
            rate_at_bound=(log_rate <= low + near) | (log_rate >= high - near),
            absent=centred < ABSENT * self._mean,
        )

    def _centred_best(self) -> Floats:
        centred: Floats = self.best.coefficients[0].copy()
        centred[1:] *= _exp(-self.best.rate[0] * self._centre)
        return centred

    def _predicted(self) -> Floats:
        predicted: Floats = self._design(float(self.best.rate[0])) @ self._centred_best()
        return predicted

    def _slopes(self) -> Floats:
        """Slopes in c_0, the centred c_k and the rate, times the roots of the weights: (points, parameters)."""
        design = self._design(float(self.best.rate[0]))
        along_rate = -(design[:, 1:] * self._x.T) @ self._centred_best()[1:]
        slopes: Floats = np.sqrt(self._weights)[:, None] * np.concatenate([design, along_rate[:, None]], axis=1)
        return slopes

    def _degrees(self) -> float:
        """Of the least known parameter; infinite where units are single points, or so many that it does not matter."""
        units = int(self._unit.max()) + 1
        if units in {1, len(self._unit)} or units > MANY_UNITS:
            return math.inf
        residuals = np.sqrt(self._weights) * self.residuals
        return max(float(cluster_degrees(self._slopes(), residuals, self._unit).min()), 1.0)

    def _own_residuals(self) -> Floats:
        """(1 - H_uu)^(-1/2) e_u of each unit u, with H the hat matrix of the fit's slopes.

        Of a unit of one point it is (1 - H_uu)^-1 e_u.
        """
        slopes = self._slopes()
        basis = _orthonormal(slopes / np.linalg.norm(slopes, axis=0).clip(np.finfo(float).tiny))
        own = np.empty_like(self.residuals)
        for unit in range(int(self._unit.max()) + 1):
            rows = np.flatnonzero(self._unit == unit)
            left, sizes, _ = np.linalg.svd(basis[rows], full_matrices=False)
            power = 1.0 if len(rows) == 1 else 0.5
            stretch = np.maximum(1 - sizes**2, LEAST_OWN) ** -power - 1
            own[rows] = self.residuals[rows] + left @ (stretch * (left.T @ self.residuals[rows]))
        return own


def central_spread(draws: Floats) -> float:
    """Half the width of the central 68 % of the draws: a standard error that the far tails of few runs leave alone."""
    low, high = np.quantile(draws, [0.16, 0.84])
    return float(high - low) / 2


@dataclass(frozen=True, kw_only=True)
class _Moved:
    """Values `base` (points,) plus, in each row, `residuals` (points,) times the number (rows, units) of their unit."""

    base: Floats
    residuals: Floats
    unit: npt.NDArray[np.int64]
    numbers: Floats

    @classmethod
    def fixed(cls, values: Floats) -> _Moved:
        """One row: the values themselves."""
        zeros = np.zeros_like(values)
        return cls(base=values, residuals=zeros, unit=zeros.astype(np.int64), numbers=np.zeros((1, 1)))

    def sums(self, columns: Floats) -> Floats:
        """Each column (points, c) times the values, summed over the points: (rows, c)."""
        total: Floats = self.base @ columns + self.numbers @ self._by_unit(self.residuals[:, None] * columns)
        return total

    def squares(self, weights: Floats) -> Floats:
        """The weighted sum of the squared values, (rows,)."""
        own = self._by_unit((weights * self.residuals**2)[:, None])[:, 0]
        crossed = self._by_unit((weights * self.residuals * self.base)[:, None])[:, 0]
        total: Floats = weights @ self.base**2 + 2 * self.numbers @ crossed + self.numbers**2 @ own
        return total

    def _by_unit(self, columns: Floats) -> Floats:
        places = self.unit, np.arange(len(self.unit))
        members = sparse.csr_array((np.ones(len(self.unit)), places), shape=(self.numbers.shape[1], len(self.unit)))
        return np.asarray(members @ columns)


def _exp(exponents: Floats) -> Floats:
    value: Floats = np.exp(np.clip(exponents, -MOST_EXPONENT, MOST_EXPONENT))
    return value


def _orthonormal(columns: Floats) -> Floats:
    """An orthonormal basis of what the columns span."""
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    basis: Floats = left[:, sizes > 1e-10 * sizes[0]]
    return basis
