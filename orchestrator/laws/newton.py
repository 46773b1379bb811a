"""Batched damped Newton under Huber's loss on log loss.

Rows of a batch share the points and differ in their start and in their sample: weights and losses.
The objective of sums of powers is here, with its exact Hessian: the model of a row is
log(sum_k exp(c_k - alpha_k x_k)) with x_0 = 0, an offset and one term per quantity, by their log
coefficients c and their exponents alpha, on centred logs x. Any other formula: see curve_fit.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from orchestrator.laws.result import Floats

# Huber's threshold on log loss (Hoffmann et al. 2022, section 3.3).
HUBER_DELTA = 1e-3
# A row has converged when a full step promises to lower its objective by less than this. A guess: a
# thousandth of the 1e-6 that two optima may differ by without a visible change of the parameters.
TOLERANCE = 1e-11
# Damping in units of the reweighted Gauss-Newton matrix: where it starts, how it changes, where a row
# is given up as being at its minimum. Guesses, tried on random problems (tests/benchmarks).
DAMPING_START = 0.1
DAMPING_DOWN, DAMPING_SHORT, DAMPING_UP = 0.25, 2.0, 8.0
DAMPING_LEAST, DAMPING_MOST = 1e-8, 1e9
# Parts of a step that does not lower the objective that are tried at once: Huber's loss at this
# threshold is nearly piecewise linear, so that the best point often lies inside the step.
SHORTER = (0.3, 0.1, 0.03)
RIDGE = 1e-10


@dataclass(frozen=True, kw_only=True)
class Samples:
    """One data set a row: how often each point counts and what is added to its log loss, (rows, points)."""

    weights: Floats
    shifts: Floats

    def __getitem__(self, rows: npt.NDArray[np.intp] | slice) -> Samples:
        return Samples(weights=self.weights[rows], shifts=self.shifts[rows])

    def __len__(self) -> int:
        return len(self.weights)

    @classmethod
    def weighted(cls, weights: npt.ArrayLike) -> Samples:
        """The measured losses under other weights, e.g. bootstrap multiplicities."""
        counted = np.asarray(weights, dtype=float)
        return cls(weights=counted, shifts=np.broadcast_to(0.0, counted.shape))


@dataclass(frozen=True, kw_only=True)
class Derivatives:
    """Value (rows,), gradient (rows, p), exact Hessian and its reweighted Gauss-Newton bound (rows, p, p)."""

    value: Floats
    gradient: Floats
    hessian: Floats
    bound: Floats


class Descended(Protocol):
    """What `polish` minimises, inside the box from `lower` to `upper`, each (p,)."""

    @property
    def lower(self) -> Floats:
        """Least parameters."""

    @property
    def upper(self) -> Floats:
        """Largest parameters."""

    def value(self, theta: Floats, samples: Samples) -> Floats:
        """The objective of each row, (rows,)."""

    def derivatives(self, theta: Floats, samples: Samples) -> Derivatives:
        """All that a step needs."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is minimised: the points, which term has which exponent, and the box of the parameters.

    `x` is (terms, points), centred natural logs; `log_loss` (points,); `shared` the exponent's index
    of each term; `lower` and `upper` bound the 1 + terms log coefficients, then the exponents.
    """

    x: Floats
    log_loss: Floats
    shared: tuple[int, ...]
    lower: Floats
    upper: Floats

    @property
    def terms(self) -> int:
        """How many powers are summed, the offset apart."""
        return len(self.shared)

    def residuals(self, theta: Floats) -> tuple[Floats, Floats]:
        """Log residuals (rows, points), and each term's part of the prediction (rows, 1 + terms, points)."""
        exponents = theta[:, self.terms + 1 :][:, self.shared]
        parts = np.empty((len(theta), self.terms + 1, self.x.shape[1]))
        parts[:, 0] = np.exp(theta[:, :1])
        np.multiply(exponents[:, :, None], -self.x, out=parts[:, 1:])
        parts[:, 1:] += theta[:, 1 : self.terms + 1, None]
        np.exp(parts[:, 1:], out=parts[:, 1:])
        total = parts.sum(axis=1)
        parts /= total[:, None]
        return np.log(total) - self.log_loss, parts

    def value(self, theta: Floats, samples: Samples) -> Floats:
        """The weighted sum of Huber's loss, (rows,)."""
        total: Floats = np.einsum("ri,ri->r", samples.weights, huber(self.residuals(theta)[0] - samples.shifts))
        return total

    def derivatives(self, theta: Floats, samples: Samples) -> Derivatives:
        """All that a step needs.

        With p_k a term's part and j_k = d(c_k - alpha_k x_k), the residual's gradient is g = sum p_k j_k and
        its Hessian sum p_k j_k j_k' - g g'.
        """
        residuals, parts = self.residuals(theta)
        residuals, weights = residuals - samples.shifts, samples.weights
        score = weights * np.clip(residuals, -HUBER_DELTA, HUBER_DELTA)
        curved = weights * (np.abs(residuals) <= HUBER_DELTA)
        slope = _slopes(self, parts)
        second = slope @ ((curved - score)[:, :, None] * slope.transpose(0, 2, 1))
        _add_term_blocks(second, self, score[:, None] * parts)
        reweighted = weights * huber_weights(residuals)
        return Derivatives(
            value=np.einsum("ri,ri->r", weights, huber(residuals)),
            gradient=(slope @ score[:, :, None])[:, :, 0],
            hessian=second,
            bound=slope @ (reweighted[:, :, None] * slope.transpose(0, 2, 1)),
        )


def huber(residuals: Floats) -> Floats:
    """Huber's loss of each residual."""
    size = np.abs(residuals)
    inside = np.minimum(size, HUBER_DELTA)
    each: Floats = inside * (size - inside / 2)
    return each


def huber_weights(residuals: Floats) -> Floats:
    """The weights under which least squares has the slope of Huber's loss."""
    weights: Floats = HUBER_DELTA / np.maximum(np.abs(residuals), HUBER_DELTA)
    return weights


def _slopes(objective: Objective, parts: Floats) -> Floats:
    terms = objective.terms
    slope = np.zeros((len(parts), len(objective.lower), parts.shape[2]))
    slope[:, : terms + 1] = parts
    for term, exponent in enumerate(objective.shared):
        slope[:, terms + 1 + exponent] -= parts[:, term + 1] * objective.x[term]
    return slope


def _add_term_blocks(second: Floats, objective: Objective, scored: Floats) -> None:
    second[:, 0, 0] += scored[:, 0].sum(axis=1)
    for term, exponent in enumerate(objective.shared):
        row, column, x = term + 1, objective.terms + 1 + exponent, objective.x[term]
        moments = scored[:, row] @ np.stack([np.ones_like(x), x, x * x], axis=1)
        second[:, row, row] += moments[:, 0]
        second[:, row, column] -= moments[:, 1]
        second[:, column, row] -= moments[:, 1]
        second[:, column, column] += moments[:, 2]


def polish(objective: Descended, start: Floats, samples: Samples, iterations: int = 100) -> tuple[Floats, Floats]:
    """Descend from each start (rows, p) on its sample; parameters and values at the end."""
    theta = np.clip(start, objective.lower, objective.upper)
    values = objective.value(theta, samples)
    damping = np.full(len(theta), DAMPING_START)
    active = np.arange(len(theta))
    for _ in range(iterations):
        if not active.size:
            break
        at, sample = theta[active], samples[active]
        here = objective.derivatives(at, sample)
        trial, promise = _step(objective, at, here, damping[active])
        reached = objective.value(trial, sample)
        short = np.flatnonzero(reached >= values[active])
        trial[short], reached[short] = _shortened(objective, at[short], trial[short], sample[short])
        better = reached < values[active]
        theta[active[better]], values[active[better]] = trial[better], reached[better]
        factor = np.where(better, DAMPING_DOWN, DAMPING_UP)
        factor[short] = np.where(better[short], DAMPING_SHORT, DAMPING_UP)
        damping[active] = np.maximum(damping[active] * factor, DAMPING_LEAST)
        active = active[((promise > TOLERANCE) | (damping[active] > 1)) & (damping[active] < DAMPING_MOST)]
    return theta, values


def _shortened(objective: Descended, at: Floats, trial: Floats, samples: Samples) -> tuple[Floats, Floats]:
    """The best of the shorter steps, and its values."""
    points = np.stack([at + part * (trial - at) for part in SHORTER])
    values = np.stack([objective.value(point, samples) for point in points])
    choice = np.argmin(values, axis=0), np.arange(len(at))
    return points[choice], values[choice]


def _step(objective: Descended, theta: Floats, here: Derivatives, damping: Floats) -> tuple[Floats, Floats]:
    """Where the damped Newton step leads, inside the box, and by how much it should lower the objective."""
    out = (theta <= objective.lower) & (here.gradient > 0) | (theta >= objective.upper) & (here.gradient < 0)
    gradient = np.where(out, 0.0, here.gradient)
    matrix = here.hessian + damping[:, None, None] * here.bound
    diagonal = np.einsum("...ii->...i", here.bound)
    np.einsum("...ii->...i", matrix)[...] += RIDGE * (1 + damping[:, None]) * (diagonal + RIDGE)
    matrix[out] = 0.0
    matrix.transpose(0, 2, 1)[out] = 0.0
    np.einsum("...ii->...i", matrix)[out] = 1.0
    step = np.linalg.solve(matrix, -gradient[:, :, None])[:, :, 0]
    trial = np.clip(theta + step, objective.lower, objective.upper)
    promise = np.abs(np.einsum("...i,...i->...", gradient, step))
    return trial, promise
