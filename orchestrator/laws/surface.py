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
from orchestrator.laws.surface_descent import (
    LEAST_NOISE,
    Errors,
    Prior,
    Untied,
    degrees,
    descend,
    gram,
    huber,
    likely_errors,
    robust_noise,
)
from orchestrator.laws.surface_form import (
    Ints,
    Observations,
    factor_of,
    jacobian_of,
    pooled_size,
    predicted_excess,
    warp,
)

FIRST_MISFIT = 0.2  # part of a run's excess that the form may get wrong, to begin with. A guess
# Weak priors keep the fit on the ground where data are few, as standard deviations: the skew (measured
# surfaces have 0 to 1), log curvature, centres in widths of the tried range, correlation of settings.
SKEW_PRIOR = 0.7
LOG_CURVATURE_PRIOR = 2.0
CENTRE_PRIOR = 2.0
UNTIED = Untied()


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


def fit_surface(data: Observations) -> Surface:
    """Fit floors, centres, curvature and skew together; then the errors' size, and all again."""
    theta = _start(data)
    prior = _prior(data, theta)
    first = max(float(np.median(np.abs(data.log_loss - theta[data.cell]))) / 4, LEAST_NOISE)
    renew = robust_noise(data, UNTIED)
    theta, errors = descend(data, theta, UNTIED, prior, Errors(noise=first, misfit=FIRST_MISFIT), renew=renew)
    theta, errors = descend(data, theta, UNTIED, prior, likely_errors(data, theta, UNTIED), renew=renew)
    return _surface(data, theta, prior, errors)


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


def _prior(data: Observations, start: Floats) -> Prior:
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
    return Prior(mean=mean, precision=precision)


def _surface(data: Observations, theta: Floats, prior: Prior, errors: Errors) -> Surface:
    cells, settings = data.cells, data.settings
    excess = predicted_excess(data, theta)
    spread = errors.spread(excess)
    residual = (data.log_loss - theta[data.cell] - excess) / spread
    weight = huber(residual)[1]
    rows = jacobian_of(data, theta, np.sqrt(weight) / spread)
    own = gram(rows)
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
        dof=degrees(data, theta),
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
