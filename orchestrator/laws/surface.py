"""A loss surface in log settings whose curvature all cells share.

    log loss of a run = floor_c + q(u),   u = settings' coordinates - centre_c
    q(u) = |L' s|^2 / 2,   s = u but s_0 = sign(u_0) sqrt(2 (exp(k u_0) - 1 - k u_0)) / k

The matrix L L' is the curvature at the centre and positive definite by construction, so the centre is
the optimum of its cell. The skew k makes the side of high learning rates steep, as measured ones are,
without moving the optimum; k = 0 is a plain quadratic. The fit is Levenberg-Marquardt with Huber
weights. A run's error variance is noise^2 + (misfit * q)^2, since the form is only right near the
optimum; both are estimated. One run's readings in several cells share a part of their error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from orchestrator.laws.result import Floats
from orchestrator.laws.surface_form import (
    Ints,
    Observations,
    factor_of,
    jacobian_of,
    pooled_size,
    predicted_excess,
    warp,
)

# Part of a run's excess log loss that the form may get wrong: the first to assume, and those to choose
# from. Its lower end keeps far runs from deciding. Guesses.
FIRST_MISFIT = 0.2
MISFITS = (0.03, 0.05, 0.08, 0.12, 0.2, 0.3)
# Where errors count linearly, in standard deviations (Huber 1964: 95 % efficient under normal errors).
HUBER = 1.345
# Weak priors keep the fit on the ground where data are few, as standard deviations: the skew (measured
# surfaces have 0 to 1), log curvature, centres in widths of the tried range, correlation of settings.
SKEW_PRIOR = 0.7
LOG_CURVATURE_PRIOR = 2.0
CENTRE_PRIOR = 2.0
ROUNDS = 60
LEAST_NOISE = 1e-6
TOLERANCE = 1e-7


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A fitted surface: `floor` (cells,), `centre` (cells, k), curvature (k, k), skew.

    `covariance` is that of all floors, then all centres cell by cell; `noise` is the standard
    deviation of log loss at the optimum; `shared` the part of it that one run's readings
    share; `misfit` the part of a run's excess that the form gets wrong.
    """

    floor: Floats
    centre: Floats
    curvature: Floats
    skew: float
    covariance: Floats
    noise: float
    misfit: float
    shared: float
    dof: float

    def excess(self, offsets: Floats) -> Floats:
        """Log loss above the floor at coordinates minus the centre, shape (..., k)."""
        warped = offsets.copy()
        warped[..., 0] = warp(offsets[..., 0], self.skew)
        return np.asarray(0.5 * np.einsum("...i,ij,...j->...", warped, self.curvature, warped))

    def evidence(self, data: Observations, setting: int) -> float:
        """F ratio of a setting: what it explains of the data in units of noise, a parameter; about 1 by chance."""
        offsets = data.coordinates - self.centre[data.cell]
        without = offsets.copy()
        without[:, setting] = 0.0
        excess = self.excess(offsets)
        part = excess - self.excess(without)
        weight = 1 / (self.noise**2 + (self.misfit * excess) ** 2)
        mean = np.bincount(data.cell, weight * part) / np.bincount(data.cell, weight)
        explained = float((weight * (part - mean[data.cell]) ** 2).sum())
        return float(explained / (self.floor.size + self.centre.shape[1]))

    def floor_stderr(self) -> Floats:
        """Standard errors (cells,) of the floors."""
        return np.asarray(np.sqrt(np.diag(self.covariance)[: self.floor.size]))


@dataclass(frozen=True, kw_only=True)
class _Errors:
    """Standard deviation of a run's log loss around the form: noise at the optimum, misfit of its excess."""

    noise: float
    misfit: float

    def spread(self, excess: Floats) -> Floats:
        return np.asarray(np.sqrt(self.noise**2 + (self.misfit * excess) ** 2))


@dataclass(frozen=True, kw_only=True)
class _Prior:
    mean: Floats
    precision: Floats


def fit_surface(data: Observations) -> Surface:
    """Fit floors, centres, curvature and skew together; then the errors' size, and all again."""
    theta = _start(data)
    prior = _prior(data, theta)
    first = max(float(np.median(np.abs(data.log_loss - theta[data.cell]))) / 4, LEAST_NOISE)
    theta, errors = _descend(data, theta, prior, _Errors(noise=first, misfit=FIRST_MISFIT))
    theta, errors = _descend(data, theta, prior, _likely_errors(data, theta))
    return _surface(data, theta, prior, errors)


def _descend(data: Observations, theta: Floats, prior: _Prior, errors: _Errors) -> tuple[Floats, _Errors]:
    """Levenberg-Marquardt; the noise is estimated again after each step that helped."""
    damping = 1e-2
    normal, gradient, cost = _normal_equations(data, theta, prior, errors)
    for _ in range(ROUNDS):
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -gradient)
        worse = _normal_equations(data, theta + step, prior, errors)[2]
        if worse > cost:
            damping *= 5
            if damping > 1e8:
                break
            continue
        settled = cost - worse < TOLERANCE * (1 + abs(cost))
        theta, damping = theta + step, max(damping / 5, 1e-10)
        fresh = _Errors(noise=_noise(data, theta, errors.misfit), misfit=errors.misfit)
        if settled and abs(np.log(fresh.noise / errors.noise)) < 1e-3:
            break
        errors = fresh
        normal, gradient, cost = _normal_equations(data, theta, prior, errors)
    return theta, errors


def _start(data: Observations) -> Floats:
    """Floors at the minima, centres at the mean of each cell's best quarter, a mild curvature."""
    cells, settings = data.cells, data.settings
    floor, centre = np.empty(cells), np.empty((cells, settings))
    for cell in range(cells):
        mine = np.flatnonzero(data.cell == cell)
        best = mine[np.argsort(data.log_loss[mine], kind="stable")][: max(2, mine.size // 4)]
        floor[cell] = data.log_loss[best[0]]
        centre[cell] = data.coordinates[best].mean(axis=0)
    offsets = data.coordinates - centre[data.cell]
    excess = np.clip(data.log_loss - floor[data.cell], 0, None)
    spread = np.maximum((offsets**2).mean(axis=0), 1e-6)
    curvature = np.maximum(2 * excess.mean() / spread / settings, 1e-6)
    pooled = np.zeros(pooled_size(settings))
    pooled[:settings] = 0.5 * np.log(curvature)
    pooled[-1] = 0.2
    return np.concatenate([floor, centre.ravel(), pooled])


def _prior(data: Observations, start: Floats) -> _Prior:
    cells, settings = data.cells, data.settings
    ranges = np.ptp(data.coordinates, axis=0) + 1e-9
    middle = (data.coordinates.max(axis=0) + data.coordinates.min(axis=0)) / 2
    below = settings * (settings - 1) // 2
    mean = np.concatenate(
        [np.zeros(cells), np.tile(middle, cells), start[-pooled_size(settings) :][:settings], np.zeros(below), [0.0]]
    )
    cell_ranges = np.tile(1 / (CENTRE_PRIOR * ranges) ** 2, cells)
    off_diagonal = 1 / np.exp(2 * start[-pooled_size(settings) :][:settings].mean()) / LOG_CURVATURE_PRIOR**2
    precision = np.concatenate(
        [
            np.zeros(cells),
            cell_ranges,
            np.full(settings, 1 / LOG_CURVATURE_PRIOR**2),
            np.full(below, off_diagonal),
            [1 / SKEW_PRIOR**2],
        ]
    )
    return _Prior(mean=mean, precision=precision)


def _huber(standardised: Floats) -> tuple[Floats, Floats]:
    """Huber's loss and weight."""
    size = np.abs(standardised)
    loss = np.where(size <= HUBER, 0.5 * size**2, HUBER * (size - 0.5 * HUBER))
    return loss, HUBER / np.maximum(size, HUBER)


def _normal_equations(
    data: Observations, theta: Floats, prior: _Prior, errors: _Errors
) -> tuple[Floats, Floats, float]:
    """Gauss-Newton matrix, gradient and cost in units of noise."""
    excess = predicted_excess(data, theta)
    spread = errors.spread(excess)
    residual = (theta[data.cell] + excess - data.log_loss) / spread
    loss, weight = _huber(residual)
    jacobian = sparse.diags_array(1 / spread) @ jacobian_of(data, theta)
    away = theta - prior.mean
    normal = (jacobian.T @ (sparse.diags_array(weight) @ jacobian)).toarray() + np.diag(prior.precision)
    gradient = jacobian.T @ (weight * residual) + prior.precision * away
    cost = float(loss.sum() + np.log(spread / errors.noise).sum() + 0.5 * (prior.precision * away**2).sum())
    return np.asarray(normal), np.asarray(gradient), cost


def _degrees(data: Observations) -> float:
    return max(float(data.log_loss.size - data.cells * (1 + data.settings) - pooled_size(data.settings)), 1.0)


def _noise(data: Observations, theta: Floats, misfit: float) -> float:
    """Robust standard deviation at the optimum, by the parameters spent (at least LEAST_NOISE)."""
    excess = predicted_excess(data, theta)
    residual = data.log_loss - theta[data.cell] - excess
    noise = float(np.std(residual)) + LEAST_NOISE
    for _ in range(20):
        spread = _Errors(noise=noise, misfit=misfit).spread(excess)
        clipped = np.clip(residual / spread, -2 * HUBER, 2 * HUBER)
        noise = max(noise * float(np.sqrt((clipped**2).sum() / _degrees(data))), LEAST_NOISE)
    return noise


def _likely_errors(data: Observations, theta: Floats) -> _Errors:
    """The noise and misfit under which the residuals are most likely."""
    excess = predicted_excess(data, theta)
    residual = (data.log_loss - theta[data.cell] - excess) * np.sqrt(data.log_loss.size / _degrees(data))
    choices = [_Errors(noise=_noise(data, theta, misfit), misfit=misfit) for misfit in MISFITS]

    def unlikely(errors: _Errors) -> float:
        spread = errors.spread(excess)
        return float((_huber(residual / spread)[0] + np.log(spread)).sum())

    return min(choices, key=unlikely)


def _surface(data: Observations, theta: Floats, prior: _Prior, errors: _Errors) -> Surface:
    cells, settings = data.cells, data.settings
    excess = predicted_excess(data, theta)
    spread = errors.spread(excess)
    residual = (data.log_loss - theta[data.cell] - excess) / spread
    weight = _huber(residual)[1]
    rows = sparse.diags_array(np.sqrt(weight) / spread) @ jacobian_of(data, theta)
    own = (rows.T @ rows).toarray()
    inverse = np.linalg.inv(own + np.diag(prior.precision))
    shared = _shared_part(np.sqrt(weight) * residual, data.run)
    sums = sparse.csr_array((np.ones(data.run.size), (data.run, np.arange(data.run.size)))) @ rows
    meat = (1 - shared) * own + shared * (sums.T @ sums).toarray() + np.diag(prior.precision)
    pooled = theta[-pooled_size(settings) :]
    factor = factor_of(pooled, settings)
    keep = cells + cells * settings
    covariance = inverse @ meat @ inverse
    return Surface(
        floor=theta[:cells].copy(),
        centre=theta[cells:keep].reshape(cells, settings).copy(),
        curvature=factor @ factor.T,
        skew=float(pooled[-1]),
        covariance=np.asarray(covariance[:keep, :keep]),
        noise=errors.noise,
        misfit=errors.misfit,
        shared=shared,
        dof=_degrees(data),
    )


def _shared_part(residual: Floats, run: Ints) -> float:
    """Mean correlation of one run's errors in different cells, 0 to 1; 0 where no run is read twice."""
    size = np.bincount(run)
    total = np.bincount(run, weights=residual)
    squares = np.bincount(run, weights=residual**2)
    pairs = float((size * (size - 1)).sum())
    variance = float((residual**2).mean())
    if pairs == 0 or variance == 0:
        return 0.0
    return float(np.clip((total**2 - squares).sum() / pairs / variance, 0, 1))
