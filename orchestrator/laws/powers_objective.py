"""The objective of sums of powers under Huber's loss on log loss, with its exact Hessian.

The model of a row is log(sum_k exp(c_k - alpha_k x_k)) with x_0 = 0, an offset and one term per quantity,
by their log coefficients c and their exponents alpha, on centred logs x. The cost is that of the
exponentials and the logarithm, so rows are taken in blocks that stay in the cache, in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from orchestrator.laws.newton import (
    Derivatives,
    Samples,
    huber,
    huber_curvatures,
    huber_scores,
    huber_weights,
)
from orchestrator.laws.result import Floats

# Rows * points that are worked on at once: a dozen such arrays stay in a second-level cache of half a megabyte or
# more, and numpy's own cost of a call is small beside them. Tried: 12 to 50 thousand are equally fast.
BLOCK_ELEMENTS = 24_000

# How far a tangent is followed, as a change of the logarithm of any term. Without an end, a flat valley's tangent
# leads where a term is as good as none, and its logarithm never rises again. A guess.
TANGENT_REACH = 0.3


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

    def at(self, points: npt.NDArray[np.intp]) -> Objective:
        """The same with these points only."""
        return replace(self, x=self.x[:, points], log_loss=self.log_loss[points])

    def residuals(self, theta: Floats) -> tuple[Floats, Floats]:
        """Log residuals (rows, points), and each power's part of the prediction (terms, rows, points)."""
        terms = self.terms
        parts = np.empty((terms, len(theta), self.log_loss.size))
        for term, exponent in enumerate(self.shared):
            np.multiply(theta[:, [terms + 1 + exponent]], -self.x[term], out=parts[term])
            parts[term] += theta[:, [term + 1]]
        np.exp(parts, out=parts)
        total = parts.sum(axis=0)
        total += np.exp(theta[:, :1])
        parts /= total
        np.log(total, out=total)
        total -= self.log_loss
        return total, parts

    def value(self, theta: Floats, samples: Samples) -> Floats:
        """The weighted sum of Huber's loss, (rows,)."""
        found = np.empty(len(theta))
        for rows in self._blocks(len(theta)):
            residuals = self.residuals(theta[rows])[0]
            residuals -= samples.shifts[rows]
            found[rows] = np.vecdot(samples.weights[rows], huber(residuals))
        return found

    def derivatives(self, theta: Floats, samples: Samples) -> Derivatives:
        """All that a step needs.

        With p_k a term's part and j_k = d(c_k - alpha_k x_k), the residual's gradient is g = sum p_k j_k and
        its Hessian sum p_k j_k j_k' - g g'.
        """
        found = Derivatives.empty(len(theta), self.lower.size)
        for rows in self._blocks(len(theta)):
            residuals, parts = self.residuals(theta[rows])
            residuals -= samples.shifts[rows]
            weights = samples.weights[rows]
            scores = weights * huber_scores(residuals)
            slopes = self._slopes(parts)
            found.value[rows] = np.vecdot(weights, huber(residuals))
            found.gradient[rows] = np.matvec(slopes, scores)
            curved = weights * huber_curvatures(residuals)
            curved -= scores
            found.hessian[rows] = _products(slopes, curved)
            self._add_own_curvature(found.hessian[rows], parts, scores)
            found.bound[rows] = _products(slopes, weights * huber_weights(residuals))
        return found

    def tangent(self, theta: Floats) -> Tangent:
        """The same fit with log predictions that are linear around `theta`, (parameters,)."""
        residuals, parts = self.residuals(theta[None])
        reach = np.full(theta.size, TANGENT_REACH)
        reach[self.terms + 1 :] /= max(np.abs(self.x).max(), 1.0)  # a narrower range wants no longer reach
        return Tangent(
            touched=theta,
            residuals=residuals[0],
            slopes=self._slopes(parts)[0],
            lower=np.maximum(self.lower, theta - reach),
            upper=np.minimum(self.upper, theta + reach),
        )

    def _blocks(self, rows: int) -> Iterator[slice]:
        size = max(1, BLOCK_ELEMENTS // self.log_loss.size)
        return (slice(at, at + size) for at in range(0, rows, size))

    def _slopes(self, parts: Floats) -> Floats:
        """The gradients of the residuals, (rows, parameters, points)."""
        terms = self.terms
        slopes = np.empty((parts.shape[1], self.lower.size, parts.shape[2]))
        slopes[:, 0] = 1
        slopes[:, terms + 1 :] = 0
        for term, exponent in enumerate(self.shared):
            slopes[:, 0] -= parts[term]
            slopes[:, term + 1] = parts[term]
            slopes[:, terms + 1 + exponent] -= parts[term] * self.x[term]
        return slopes

    def _add_own_curvature(self, hessian: Floats, parts: Floats, scores: Floats) -> None:
        """Add the sum over points of score * sum_k p_k j_k j_k'."""
        total = scores.sum(axis=1)
        for term, exponent in enumerate(self.shared):
            row, column, x = term + 1, self.terms + 1 + exponent, self.x[term]
            count, mean, square = ((parts[term] * scores) @ np.stack([np.ones_like(x), x, x * x], axis=1)).T
            hessian[:, row, row] += count
            hessian[:, row, column] -= mean
            hessian[:, column, row] -= mean
            hessian[:, column, column] += square
            total -= count
        hessian[:, 0, 0] += total


@dataclass(frozen=True, kw_only=True)
class Tangent:
    """The log residuals are `residuals` + (theta - touched) @ slopes: one matrix product for all rows of a batch.

    A cheap and near start for samples whose minimum is not far from `touched`.
    """

    touched: Floats
    residuals: Floats
    slopes: Floats
    lower: Floats
    upper: Floats

    def value(self, theta: Floats, samples: Samples) -> Floats:
        """The weighted sum of Huber's loss, (rows,)."""
        total: Floats = np.vecdot(samples.weights, huber(self._residuals(theta, samples)))
        return total

    def derivatives(self, theta: Floats, samples: Samples) -> Derivatives:
        """All that a step needs."""
        residuals, weights = self._residuals(theta, samples), samples.weights
        size = self.lower.size
        squares = (self.slopes[:, None] * self.slopes).reshape(size * size, -1).T
        return Derivatives(
            value=np.vecdot(weights, huber(residuals)),
            gradient=(weights * huber_scores(residuals)) @ self.slopes.T,
            hessian=((weights * huber_curvatures(residuals)) @ squares).reshape(-1, size, size),
            bound=((weights * huber_weights(residuals)) @ squares).reshape(-1, size, size),
        )

    def _residuals(self, theta: Floats, samples: Samples) -> Floats:
        residuals: Floats = (theta - self.touched) @ self.slopes
        residuals += self.residuals
        residuals -= samples.shifts
        return residuals


def _products(slopes: Floats, weights: Floats) -> Floats:
    """The weighted sum over points of slope slope', (rows, parameters, parameters)."""
    product: Floats = (slopes * weights[:, None]) @ slopes.transpose(0, 2, 1)
    return product
