"""Batched damped Newton under Huber's loss on log loss.

Rows of a batch share the points and differ in their start and in their sample: weights and losses.
What is minimised is in powers_objective.py for sums of powers, in curve_fit.py for any other formula.
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

    def __getitem__(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice) -> Samples:
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

    def __getitem__(self, rows: npt.NDArray[np.bool_]) -> Derivatives:
        return Derivatives(
            value=self.value[rows], gradient=self.gradient[rows], hessian=self.hessian[rows], bound=self.bound[rows]
        )

    def put(self, rows: npt.NDArray[np.bool_], other: Derivatives) -> None:
        """Overwrite these rows with the rows of another."""
        self.value[rows], self.gradient[rows] = other.value, other.gradient
        self.hessian[rows], self.bound[rows] = other.hessian, other.bound

    @classmethod
    def empty(cls, rows: int, parameters: int) -> Derivatives:
        """Room for so many rows."""
        square = rows, parameters, parameters
        return cls(
            value=np.empty(rows), gradient=np.empty(square[:2]), hessian=np.empty(square), bound=np.empty(square)
        )


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


def huber(residuals: Floats) -> Floats:
    """Huber's loss of each residual."""
    size = np.abs(residuals)
    inside = np.minimum(size, HUBER_DELTA)
    size -= inside / 2
    size *= inside
    return size


def huber_scores(residuals: Floats) -> Floats:
    """Its slope."""
    scores: Floats = np.clip(residuals, -HUBER_DELTA, HUBER_DELTA)
    return scores


def huber_curvatures(residuals: Floats) -> npt.NDArray[np.bool_]:
    """Its second derivative: one inside of the threshold, else none."""
    return np.abs(residuals) <= HUBER_DELTA


def huber_weights(residuals: Floats) -> Floats:
    """The weights under which least squares has the slope of Huber's loss."""
    weights = np.abs(residuals)
    np.maximum(weights, HUBER_DELTA, out=weights)
    return np.divide(HUBER_DELTA, weights, out=weights)


def polish(objective: Descended, start: Floats, samples: Samples, iterations: int = 100) -> tuple[Floats, Floats]:
    """Descend from each start (rows, p) on its sample; parameters and values at the end."""
    theta = np.clip(start, objective.lower, objective.upper)
    here = objective.derivatives(theta, samples)
    values, last = here.value.copy(), theta.copy()
    damping, active, sample = np.full(len(theta), DAMPING_START), np.arange(len(theta)), samples
    for _ in range(iterations):
        trial, promise = _step(objective, theta[active], here, damping[active])
        last[active] = trial
        going = ((promise > TOLERANCE) | (damping[active] > 1)) & (damping[active] < DAMPING_MOST)
        if not going.all():
            active, trial, here, sample = active[going], trial[going], here[going], sample[going]
        if not active.size:
            break
        better, short = _advance(objective, theta[active], trial, here, sample)
        theta[active[better]], values[active] = trial[better], here.value
        factor = np.where(better, np.where(short, DAMPING_SHORT, DAMPING_DOWN), DAMPING_UP)
        damping[active] = np.maximum(damping[active] * factor, DAMPING_LEAST)
    reached = objective.value(last, samples)
    lower = reached < values
    theta[lower], values[lower] = last[lower], reached[lower]
    return theta, values


def _advance(
    objective: Descended, at: Floats, trial: Floats, here: Derivatives, samples: Samples
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which steps lower the objective, and which of all had to be shortened; `trial` and `here` are brought there."""
    there = objective.derivatives(trial, samples)
    short = there.value >= here.value
    if short.any():
        trial[short] = _shortened(objective, at[short], trial[short], samples[short])
        there.put(short, objective.derivatives(trial[short], samples[short]))
    better = there.value < here.value
    here.put(better, there[better])
    return better, short


def _shortened(objective: Descended, at: Floats, trial: Floats, samples: Samples) -> Floats:
    """The best of the shorter steps."""
    points = np.stack([at + part * (trial - at) for part in SHORTER])
    values = np.stack([objective.value(point, samples) for point in points])
    best: Floats = points[np.argmin(values, axis=0), np.arange(len(at))]
    return best


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
