"""Sums of powers, loss = E + sum_k A_k x_k^-alpha_k, by variable projection.

For given exponents the coefficients are a small linear problem. So the exponents are laid out on a
grid, the coefficients (none negative) found on all of it at once by reweighted least squares under
Huber's loss on log loss, and the best few polished by Newton. Nothing depends on a good start.
Bootstrap replicates are weights on the same points: they start at the fit to all points, moved on its
tangent, and are polished in one batch. Where a pilot finds lower minima from the grid, all are tried from there too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from orchestrator.laws.exponent_grid import solve_grid
from orchestrator.laws.newton import TOLERANCE, Samples, polish
from orchestrator.laws.powers_objective import Objective
from orchestrator.laws.result import Floats

# Exponents of loss laws in params, tokens or compute lie between 0.03 and 1 in every published fit
# (Hoffmann's starts go to 2). An optimum on these bounds is reported as such.
EXPONENT_BOUNDS = (0.005, 3.0)
# Smallest coefficient, as a part of the mean loss: stands for "none" in logarithms ...
LEAST_COEFFICIENT = 1e-8
# ... and a part at the middle of the points below this is as good as none: no loss is measured better. A guess.
ABSENT = 1e-3
# Starts come from no more points than these, drawn at random: they are only starts. A guess.
MOST_GRID_POINTS = 1500
STARTS = 8  # lowest grid nodes that are polished beside the valleys. A guess
# Newton steps for all starts, how many of them go on, and for how many steps. Guesses, tried on random problems.
SCREENING, FINALISTS, POLISHING = 40, 3, 300
TANGENT_STEPS = 3  # Newton steps of a replicate on the tangent at the best fit: more come no nearer
# Replicates that are tried from the grid too; only where that leads one of them lower, all others are. A guess.
PILOT = 50
PROBING = 12  # Newton steps after which a replicate's second start is given up if it lies higher. A guess
BATCH_ELEMENTS = 4_000_000  # rows * points of one batch: bounds memory


@dataclass(frozen=True, kw_only=True)
class SumOfPowers:
    """The points of one fit.

    `quantities` is (terms, points), positive; `loss` (points,), nats per token. `shared` gives the
    exponent's index of each term: (0, 1) for two exponents, (0, 0) for one that both terms have.
    """

    quantities: Floats
    loss: Floats
    shared: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Solutions:
    """One row a replicate: E (rows,), A and alpha (rows, terms), the summed Huber loss (rows,).

    `offset_absent`, `terms_absent` say where a part of the loss is as good as zero,
    `exponents_at_bound` where an exponent lies on one of EXPONENT_BOUNDS.
    """

    offset: Floats
    coefficients: Floats
    exponents: Floats
    objective: Floats
    offset_absent: npt.NDArray[np.bool_]
    terms_absent: npt.NDArray[np.bool_]
    exponents_at_bound: npt.NDArray[np.bool_]


class VariableProjection:
    """The fit of one set of points: `best` under equal weights, `refit` to any number of samples."""

    def __init__(self, problem: SumOfPowers) -> None:
        logs = np.log(problem.quantities)
        self._centre = logs.mean(axis=1)
        self._scale = float(np.log(problem.loss).mean())
        exponents, coefficients = len(set(problem.shared)), 1 + len(problem.shared)
        least, (low, high) = float(np.log(LEAST_COEFFICIENT)), EXPONENT_BOUNDS
        self.objective = Objective(
            x=logs - self._centre[:, None],
            log_loss=np.log(problem.loss) - self._scale,
            shared=problem.shared,
            lower=np.array([least] * coefficients + [low] * exponents),
            upper=np.array([-least] * coefficients + [high] * exponents),
        )
        points = np.arange(problem.loss.size)
        if points.size > MOST_GRID_POINTS:
            points = np.sort(np.random.default_rng(0).choice(points.size, MOST_GRID_POINTS, replace=False))
        self._grid_points = points
        self._grid = solve_grid(self.objective.at(points))
        self._theta, value = self._global_minimum()
        self.best = self._solutions(self._theta[None], np.array([value]))

    def refit(self, samples: Samples) -> Solutions:
        """The best fit to each sample, e.g. bootstrap multiplicities or losses with other noise."""
        rows = max(1, BATCH_ELEMENTS // samples.weights.shape[1])
        batches = [slice(at, at + rows) for at in range(0, len(samples), rows)]
        near = [self._from_best(samples[batch]) for batch in batches]
        theta, values = (np.concatenate(piece) for piece in zip(*near, strict=True))
        for starts in (self._grid_starts, self._offsetless_starts):
            for batch in (slice(0, PILOT), *(slice(PILOT + b.start, PILOT + b.stop) for b in batches)):
                if not self._from_others(starts, theta[batch], values[batch], samples[batch]):
                    break
        return self._solutions(theta, values)

    @cached_property
    def _offsetless(self) -> Floats:
        """The best fit without an offset: replicates may have a minimum there that all points have not."""
        upper = self.objective.upper.copy()
        upper[0] = self.objective.lower[0]
        nodes = np.argsort(self._grid.value, kind="stable")[:STARTS]
        theta = np.concatenate([self._theta[None], self._grid.theta[nodes]])
        samples = Samples.weighted(np.ones((len(theta), self.objective.log_loss.size)))
        theta, values = polish(replace(self.objective, upper=upper), theta, samples, iterations=SCREENING)
        best: Floats = theta[int(np.argmin(values))]
        return best

    def _global_minimum(self) -> tuple[Floats, float]:
        nodes = np.argsort(self._grid.value, kind="stable")[:STARTS]
        theta = self._grid.theta[np.unique(np.concatenate([nodes, self._grid.valleys()]))]
        fewer = self.objective.at(self._grid_points)
        for objective, kept, iterations in ((fewer, FINALISTS, SCREENING), (self.objective, 1, POLISHING)):
            samples = Samples.weighted(np.ones((len(theta), objective.log_loss.size)))
            theta, values = polish(objective, theta, samples, iterations=iterations)
            best = np.argsort(values, kind="stable")[:kept]
            theta, values = theta[best], values[best]
        return theta[0], float(values[0])

    def _from_best(self, samples: Samples) -> tuple[Floats, Floats]:
        """From the best fit to all points, first on its tangent."""
        near = np.broadcast_to(self._theta, (len(samples), self._theta.size))
        nearer, _ = polish(self.objective.tangent(self._theta), near, samples, iterations=TANGENT_STEPS)
        return polish(self.objective, nearer, samples)

    def _grid_starts(self, samples: Samples) -> Floats:
        return self._grid.starts(samples.weights[:, self._grid_points])

    def _offsetless_starts(self, samples: Samples) -> Floats:
        return np.broadcast_to(self._offsetless, (len(samples), self._offsetless.size))

    def _from_others(
        self, starts: Callable[[Samples], Floats], theta: Floats, values: Floats, samples: Samples
    ) -> bool:
        """From other starts too, where that soon leads lower; overwrites, and says whether it did anywhere."""
        other, lower = polish(self.objective, starts(samples), samples, iterations=PROBING)
        worth = np.flatnonzero(lower < values - TOLERANCE)
        theta[worth], values[worth] = polish(self.objective, other[worth], samples[worth])
        return bool(worth.size)

    def _solutions(self, theta: Floats, values: Floats) -> Solutions:
        terms, (low, high) = self.objective.terms, EXPONENT_BOUNDS
        exponents = theta[:, terms + 1 :][:, self.objective.shared]
        logs = theta[:, : terms + 1] + self._scale
        logs[:, 1:] += exponents * self._centre
        absent = theta[:, : terms + 1] < np.log(ABSENT)
        coefficients = np.exp(logs)
        return Solutions(
            offset=coefficients[:, 0],
            coefficients=coefficients[:, 1:],
            exponents=exponents,
            objective=values,
            offset_absent=absent[:, 0],
            terms_absent=absent[:, 1:],
            exponents_at_bound=(exponents <= low) | (exponents >= high),
        )
