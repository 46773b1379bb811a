"""Levenberg-Marquardt for the loss surface, its parameters free or tied together by laws.

A run's log loss is off by noise^2 + (misfit * excess)^2, since the form is only right near the optimum;
residuals count linearly beyond HUBER standard deviations. Where parameters are tied (a law gives all
centres), `Tie` expands the free ones to the surface's and gives the slopes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse

from orchestrator.laws.result import Floats
from orchestrator.laws.surface_form import Observations, jacobian_of, predicted_excess

# Part of a run's excess log loss that the form may get wrong. Its lower end keeps far runs from deciding. Guesses.
MISFITS = (0.03, 0.05, 0.08, 0.12, 0.2, 0.3)
# Where errors count linearly, in standard deviations (Huber 1964: 95 % efficient under normal errors).
HUBER = 1.345
ROUNDS = 60
LEAST_NOISE = 1e-6
TOLERANCE = 1e-7
SETTLED = 1e-4  # relative change of the noise


class Tie(Protocol):
    """How the surface's parameters follow from the free ones."""

    def expand(self, free: Floats) -> Floats:
        """The surface's theta, see surface_form."""

    def through(self, free: Floats, jacobian: sparse.csr_array) -> sparse.csr_array | Floats:
        """Slopes by the free parameters from those by theta, (n, theta)."""


class Linear:
    """Theta = matrix @ free + offset."""

    def __init__(self, matrix: Floats, offset: Floats) -> None:
        self.matrix, self._offset = matrix, offset

    def expand(self, free: Floats) -> Floats:
        """The surface's theta."""
        return np.asarray(self.matrix @ free + self._offset)

    def through(self, free: Floats, jacobian: sparse.csr_array) -> sparse.csr_array | Floats:
        """Slopes by the free parameters, dense."""
        return np.asarray(jacobian @ self.matrix)


class Untied:
    """Every parameter of the surface is free."""

    def expand(self, free: Floats) -> Floats:
        """Theta itself."""
        return free

    def through(self, free: Floats, jacobian: sparse.csr_array) -> sparse.csr_array | Floats:
        """The same."""
        return jacobian


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Standard deviation of a run's log loss around the form: noise at the optimum, misfit of its excess."""

    noise: float
    misfit: float

    def spread(self, excess: Floats) -> Floats:
        """The standard deviation of runs with these excesses."""
        return np.asarray(np.sqrt(self.noise**2 + (self.misfit * excess) ** 2))


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Independent normal priors of the free parameters; precision 0 where there is none."""

    mean: Floats
    precision: Floats


def huber(standardised: Floats) -> tuple[Floats, Floats]:
    """Huber's loss and weight."""
    size = np.abs(standardised)
    loss = np.where(size <= HUBER, 0.5 * size**2, HUBER * (size - 0.5 * HUBER))
    return loss, HUBER / np.maximum(size, HUBER)


# The errors to go on with, from the free parameters and the errors so far.
Renew = Callable[[Floats, Errors], Errors]


def keep_errors(_free: Floats, errors: Errors) -> Errors:
    """Goes on with the same errors."""
    return errors


def robust_noise(data: Observations, tie: Tie) -> Renew:
    """Estimates the noise again, by the parameters spent."""
    return lambda free, errors: Errors(noise=noise_at(data, free, tie, errors.misfit), misfit=errors.misfit)


def descend(
    data: Observations, free: Floats, tie: Tie, prior: Prior, errors: Errors, *, renew: Renew
) -> tuple[Floats, Errors]:
    """The free parameters at the minimum; the errors are renewed after each step that helped."""
    damping = 1e-2
    normal, gradient, cost = normal_equations(data, free, tie, prior, errors)
    for _ in range(ROUNDS):
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -gradient)
        worse = cost_of(data, free + step, tie, prior, errors)
        if not worse <= cost:
            damping *= 5
            if damping > 1e8:
                break
            continue
        settled = cost - worse < TOLERANCE * (1 + abs(cost))
        free, damping = free + step, max(damping / 5, 1e-10)
        fresh = renew(free, errors)
        if settled and abs(np.log(fresh.noise / errors.noise)) < 1e-3:
            break
        errors = fresh
        normal, gradient, cost = normal_equations(data, free, tie, prior, errors)
    return free, errors


def cost_of(data: Observations, free: Floats, tie: Tie, prior: Prior, errors: Errors) -> float:
    """The objective in units of noise."""
    residual, excess = _residual(data, tie.expand(free))
    return _cost(residual, errors.spread(excess), free, prior, errors)


def _cost(residual: Floats, spread: Floats, free: Floats, prior: Prior, errors: Errors) -> float:
    away = free - prior.mean
    likelihood = huber(residual / spread)[0].sum() + np.log(spread / errors.noise).sum()
    return float(likelihood + 0.5 * (prior.precision * away**2).sum())


def normal_equations(
    data: Observations, free: Floats, tie: Tie, prior: Prior, errors: Errors
) -> tuple[Floats, Floats, float]:
    """Gauss-Newton matrix, gradient and cost in units of noise."""
    theta = tie.expand(free)
    residual, excess = _residual(data, theta)
    spread = errors.spread(excess)
    weight = huber(residual / spread)[1]
    root = np.sqrt(weight) / spread
    jacobian = tie.through(free, jacobian_of(data, theta, root))
    away = free - prior.mean
    gradient = jacobian.T @ (root * residual) + prior.precision * away
    normal = gram(jacobian) + np.diag(prior.precision)
    return normal, np.asarray(gradient), _cost(residual, spread, free, prior, errors)


def gram(jacobian: sparse.csr_array | Floats) -> Floats:
    """J' J as a dense matrix."""
    product = jacobian.T @ jacobian
    return np.asarray(product if isinstance(product, np.ndarray) else product.toarray())


def degrees(data: Observations, free: Floats) -> float:
    """Runs less free parameters, at least 1."""
    return max(float(data.log_loss.size - free.size), 1.0)


def noise_at(data: Observations, free: Floats, tie: Tie, misfit: float) -> float:
    """Robust standard deviation at the optimum, by the parameters spent (at least LEAST_NOISE)."""
    residual, excess = _residual(data, tie.expand(free))
    noise = float(np.std(residual)) + LEAST_NOISE
    for _ in range(20):
        spread = Errors(noise=noise, misfit=misfit).spread(excess)
        clipped = np.clip(residual / spread, -2 * HUBER, 2 * HUBER)
        before, noise = noise, max(noise * float(np.sqrt((clipped**2).sum() / degrees(data, free))), LEAST_NOISE)
        if abs(noise / before - 1) < SETTLED:
            break
    return noise


def likely_errors(data: Observations, free: Floats, tie: Tie) -> Errors:
    """The noise and misfit under which the residuals are most likely."""
    residual, excess = _residual(data, tie.expand(free))
    residual = residual * np.sqrt(data.log_loss.size / degrees(data, free))
    choices = [Errors(noise=noise_at(data, free, tie, misfit), misfit=misfit) for misfit in MISFITS]

    def unlikely(errors: Errors) -> float:
        spread = errors.spread(excess)
        return float((huber(residual / spread)[0] + np.log(spread)).sum())

    return min(choices, key=unlikely)


def _residual(data: Observations, theta: Floats) -> tuple[Floats, Floats]:
    """Predicted less measured log loss, and the predicted excess, (n,)."""
    excess = predicted_excess(data, theta)
    return theta[data.cell] + excess - data.log_loss, excess
