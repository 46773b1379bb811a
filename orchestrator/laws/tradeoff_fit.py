"""The hyperbolas of steps against tokens at all loss levels, fitted together by weighted least squares.

At each (size, level): log S = log S_min + log(1 + B_crit(L) / B), with S_min free, and one line
log B_crit = centre - fall (log L - middle) for all. Errors in log S times the slope of the curve are
errors in log loss, which are alike everywhere, under Huber's loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.laws.level_readings import LevelReadings
from orchestrator.laws.result import Floats

# Huber's threshold in robust standard deviations. Points of a curve share their error, so that a narrow
# one drops and takes up whole curves: at 1.345 intervals of 20 curves covered 91 %, at 4 95 %.
HUBER_WIDTH = 4.0
# The threshold is taken anew so often: curves that are far off inflate it at first. A guess.
RESCALINGS = 4
NORMAL_MAD = 1.4826  # standard deviations in a median absolute deviation of normal errors
MOST_SHARE = 1 - 1e-12
LEAST_SCALE = 1e-7  # of log loss: exact data must not divide by zero
# B_crit at the middle level is sought this far beyond the batch sizes tried, in logs: a factor of 1,000.
REACH = float(np.log(1000.0))
# Exponents 1/alpha_B that are sought; the published is 4.8. A guess.
LEAST_FALL, MOST_FALL = 0.05, 40.0
ITERATIONS = 60
DAMPING = 1e-6  # of the normal matrix, so that a direction nothing is known about stays where it is
LONGEST_STEP = np.array([1.0, 4.0])


@dataclass(frozen=True, kw_only=True)
class LevelFit:
    """The hyperbola of each (size, level), arrays (groups,), natural logs.

    `log_stderr` (3, groups) are the errors of critical batch, least steps and least tokens.
    """

    log_loss: Floats
    log_critical: Floats
    log_steps: Floats
    log_stderr: Floats


class TradeoffFit:
    """`theta` (2,): centre and fall of the line; `scale` the standard deviation of log loss errors."""

    def __init__(self, readings: LevelReadings) -> None:
        self.readings = readings
        self.middle = float(np.mean(readings.log_loss))
        low, high = float(readings.log_batch.min()), float(readings.log_batch.max())
        self.lower = np.array([low - REACH, LEAST_FALL])
        self.upper = np.array([high + REACH, MOST_FALL])
        self._member = (readings.group[:, None] == np.arange(readings.groups)).astype(float)
        self._width = np.inf
        one = np.ones((1, readings.log_steps.size))
        theta = self._refined(self._start(), one)
        for _ in range(RESCALINGS):
            self._width = self._robust_width(theta)
            theta = self._refined(theta, one)
        self.theta = theta[0]
        errors = self._errors(self.theta[None], one)[0][0]
        dof = max(readings.units - len(np.unique(readings.size)) - 2, 1)
        self.dof = float(dof)
        self.objective = float(np.sum(np.square(errors)))
        self.scale = max(float(np.sqrt(np.mean(errors**2) * readings.units / dof)), LEAST_SCALE)

    def refit(self, weights: Floats) -> Floats:
        """The fits (rows, 2) under other weights (rows, readings), from the fit to all."""
        return self._refined(np.broadcast_to(self.theta, (len(weights), 2)), weights)

    def levels(self) -> LevelFit:
        """The hyperbola of each (size, level) on its own, its errors from the scatter around all of them."""
        readings = self.readings
        own = self.refit(self._member.T)
        log_loss = self._group_means(readings.log_loss)
        log_critical = own[:, 0] - own[:, 1] * (log_loss - self.middle)
        # A batch without end beside the critical one still takes some steps: the logarithm below stays finite.
        part = np.minimum(_share(log_critical[readings.group] - readings.log_batch), MOST_SHARE)
        return LevelFit(
            log_loss=log_loss,
            log_critical=log_critical,
            log_steps=self._group_means(readings.log_steps + np.log1p(-part)),
            log_stderr=self._level_errors(part),
        )

    def _level_errors(self, part: Floats) -> Floats:
        """Standard errors (3, groups) of log critical batch, log least steps, log least tokens; inf where unknown."""
        weight = np.square(self.readings.slope / self.scale)
        none, one, two = (weight * part**power @ self._member for power in range(3))
        determinant = none * two - one**2
        known = determinant > 1e-9 * np.maximum(none, LEAST_SCALE) ** 2
        variances = np.stack([none, two, none + two - 2 * one]) / np.where(known, determinant, np.inf)
        return np.where(known, np.sqrt(np.maximum(variances, 0.0)), np.inf)

    def _group_means(self, values: Floats) -> Floats:
        means: Floats = values @ self._member / self._member.sum(axis=0)
        return means

    def _start(self) -> Floats:
        """The best of a grid over the whole box."""
        axes = np.linspace(self.lower[0], self.upper[0], 30), np.geomspace(0.5, MOST_FALL, 9)
        grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
        errors = self._errors(grid, np.ones((len(grid), self.readings.log_steps.size)))[0]
        return grid[[int(np.argmin(np.square(errors).sum(axis=1)))]]

    def _robust_width(self, theta: Floats) -> float:
        errors = self._errors(theta, np.ones((1, self.readings.log_steps.size)))[0]
        return max(HUBER_WIDTH * NORMAL_MAD * float(np.median(np.abs(errors))), LEAST_SCALE)

    def _errors(self, theta: Floats, weights: Floats) -> tuple[Floats, Floats]:
        """Errors in log loss (rows, readings) after each group's best S_min, and their slopes (2, rows, readings)."""
        readings = self.readings
        place = readings.log_loss - self.middle
        ratio = theta[:, :1] - theta[:, 1:] * place - readings.log_batch
        part = _share(ratio)
        values = np.stack([readings.log_steps - np.logaddexp(0.0, ratio), -part, part * place])
        total = np.maximum(weights @ self._member, 1e-12)
        means = (weights * values) @ self._member / total
        centred = readings.slope * (values - means[:, :, readings.group])
        return centred[0], centred[1:]

    def _refined(self, start: Floats, weights: Floats) -> Floats:
        """Iteratively reweighted Gauss-Newton steps inside the box."""
        theta, robust = np.array(start, float), weights
        for _ in range(ITERATIONS):
            errors, slopes = self._errors(theta, robust)
            robust = weights * np.minimum(1.0, self._width / np.maximum(np.abs(errors), LEAST_SCALE))
            normal = np.einsum("irk,rk,jrk->rij", slopes, robust, slopes)
            normal += DAMPING * np.maximum(np.trace(normal, axis1=1, axis2=2), 1e-12)[:, None, None] * np.eye(2)
            moves = -np.linalg.solve(normal, np.einsum("irk,rk,rk->ri", slopes, robust, errors)[:, :, None])[:, :, 0]
            theta = np.clip(theta + np.clip(moves, -LONGEST_STEP, LONGEST_STEP), self.lower, self.upper)
            if np.abs(moves).max() < 1e-7:
                break
        return theta


def _share(ratio: Floats) -> Floats:
    """B_crit / (B + B_crit) from the log of B_crit / B."""
    share: Floats = 1.0 / (1.0 + np.exp(-ratio))
    return share
