"""What a cell's own runs add to the belief about its best settings, and which run would tell most."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.guide import Belief, Guide
from orchestrator.laws.result import Floats
from orchestrator.laws.surface_descent import Linear, Prior, descend, keep_errors, normal_equations
from orchestrator.laws.surface_form import Observations, jacobian_of, predicted_excess, warp

# Candidates for the next run lie where the excess is so many times the one at which a run tells most of
# the centre: where noise and misfit are equal.
DISTANCES = (0.1, 0.3, 1.0, 3.0)
# A cell contradicts the laws where its runs are so many times more likely under no law at all. A guess.
DESCENT_ROUNDS, UNWARPING_STEPS = 30, 2001  # enough for a part in a thousand of a range
LEVEL_PRECISION = 1e-2  # of a cell's log loss before its first run: says nothing
CONTRADICTION = math.log(100.0)


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """The level and centre of a cell, given its runs: mean (1 + k,) and precision (1 + k, 1 + k).

    `log_evidence` compares beliefs about the same runs.
    """

    guide: Guide
    mean: Floats
    precision: Floats
    log_evidence: float

    @property
    def centre(self) -> Floats:
        """The coordinates of the best settings, (k,)."""
        return self.mean[1:]

    def regret(self, precision: Floats | None = None) -> float:
        """Expected log loss above the best at the centre, from its covariance: half tr(K Sigma)."""
        covariance = np.linalg.inv(self.precision if precision is None else precision)[1:, 1:]
        return 0.5 * float(np.trace(self.guide.curvature @ covariance))

    def excess(self, places: Floats) -> Floats:
        """Log loss above the best at places (n, k), were the centre right, (n,)."""
        return predicted_excess(_observations(places, np.zeros(len(places))), self._theta)

    def best_within(self, low: Floats, high: Floats) -> Floats:
        """The coordinates of the lowest loss in a box, (k,): the centre, or a place on the box's edge.

        With the learning rate warped the surface is a quadratic and the box a box: coordinate descent.
        """
        curvature, skew = self.guide.curvature, float(self.guide.pooled[-1])
        bounds = np.stack([low, high]) - self.centre
        bounds[:, 0] = warp(bounds[:, 0], skew)
        place = np.clip(np.zeros_like(low), *bounds)
        for _ in range(DESCENT_ROUNDS):
            for at in range(place.size):
                others = curvature[at] @ place - curvature[at, at] * place[at]
                place[at] = np.clip(-others / curvature[at, at], *bounds[:, at])
        steps = np.linspace(low[0], high[0], UNWARPING_STEPS)
        unwarped = self.centre + place
        unwarped[0] = np.interp(place[0], warp(steps - self.centre[0], skew), steps)
        return np.clip(unwarped, low, high)

    def with_runs(self, places: Floats) -> Floats:
        """The precision after runs at these places, (1 + k, 1 + k)."""
        if not len(places):
            return self.precision
        rows = self.rows(places)
        return np.asarray(self.precision + rows.T @ rows)

    def rows(self, places: Floats) -> Floats:
        """Slopes of log loss by level and centre at places, in units of a run's error, (n, 1 + k)."""
        data = _observations(places, np.zeros(len(places)))
        spread = self.guide.errors.spread(predicted_excess(data, self._theta))
        return np.asarray(jacobian_of(data, self._theta, 1 / spread).toarray()[:, : self.mean.size])

    @property
    def _theta(self) -> Floats:
        return np.concatenate([self.mean, self.guide.pooled])


def posterior(guide: Guide, belief: Belief, places: Floats, losses: Floats) -> Posterior:
    """The belief after runs at coordinates (n, k) with losses (n,), n at least 1."""
    data = _observations(places, np.log(losses))
    k = belief.mean.size
    root = np.linalg.cholesky(belief.covariance)
    matrix = np.zeros((1 + k + guide.pooled.size, 1 + k))
    matrix[0, 0] = 1.0
    matrix[1 : 1 + k, 1:] = root
    offset = np.concatenate([[0.0], belief.mean, guide.pooled])
    tie = Linear(matrix, offset)
    prior = Prior(mean=np.zeros(1 + k), precision=np.concatenate([[0.0], np.ones(k)]))
    best = int(np.argmin(data.log_loss))
    start = np.concatenate([[data.log_loss[best]], np.zeros(k)])
    free, _ = descend(data, start, tie, prior, guide.errors, renew=keep_errors)
    normal, _, cost = normal_equations(data, free, tie, prior, guide.errors)
    inverse = np.eye(1 + k)
    inverse[1:, 1:] = np.linalg.inv(root)
    return Posterior(
        guide=guide,
        mean=tie.expand(free)[: 1 + k],
        precision=inverse.T @ normal @ inverse,
        log_evidence=-cost - 0.5 * float(np.linalg.slogdet(normal)[1]),
    )


def before_runs(guide: Guide, belief: Belief) -> Posterior:
    """The belief itself: nothing is known of the level."""
    k = belief.mean.size
    precision = np.zeros((1 + k, 1 + k))
    precision[0, 0] = LEVEL_PRECISION
    precision[1:, 1:] = np.linalg.inv(belief.covariance)
    mean = np.concatenate([[0.0], belief.mean])
    return Posterior(guide=guide, mean=mean, precision=precision, log_evidence=0.0)


def wide_belief(belief: Belief, low: Floats, high: Floats) -> Belief:
    """A belief that knows the space and no law."""
    return Belief(mean=(low + high) / 2, covariance=np.diag(((high - low) / 2) ** 2) + belief.covariance)


def most_telling(known: Posterior, pending: Floats, low: Floats, high: Floats) -> tuple[Floats, float]:
    """The place whose run, beside the pending ones, is expected to lower the regret most, and by how much."""
    precision = known.with_runs(pending)
    places = _candidates(known, precision, low, high)
    rows = known.rows(places)
    covariance = np.linalg.inv(precision)
    # Sherman-Morrison: one more row r lowers the covariance by (C r)(C r)' / (1 + r' C r).
    moved = rows @ covariance
    lowered = np.einsum("ni,ij,nj->n", moved[:, 1:], known.guide.curvature, moved[:, 1:])
    gain = 0.5 * lowered / (1 + (moved * rows).sum(axis=1))
    best = int(np.argmax(gain))
    return places[best], float(gain[best])


def _candidates(known: Posterior, precision: Floats, low: Floats, high: Floats) -> Floats:
    """Places on both sides of the centre, along what is known least and along each setting."""
    k = known.centre.size
    covariance = np.linalg.inv(precision)[1:, 1:]
    factor: Floats = np.asarray(np.linalg.cholesky(known.guide.curvature))
    directions = np.vstack([np.linalg.eigh(factor.T @ covariance @ factor)[1].T @ np.linalg.inv(factor), np.eye(k)])
    steep = np.sqrt(np.einsum("ni,ij,nj->n", directions, known.guide.curvature, directions))
    errors = known.guide.errors
    reach = np.sqrt(2 * np.array(DISTANCES) * errors.noise / errors.misfit)
    unit = directions / steep[:, None]
    steps = np.concatenate([sign * distance * unit for sign in (-1, 1) for distance in reach])
    places: Floats = np.clip(known.best_within(low, high) + steps, low, high)
    return places


def _observations(places: Floats, log_loss: Floats) -> Observations:
    return Observations(
        coordinates=places,
        log_loss=log_loss,
        cell=np.zeros(len(places), dtype=np.int64),
        run=np.arange(len(places)),
    )
