"""Starts for sums of powers: the best coefficients at every node of a grid of exponents, all at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import numpy.typing as npt

from orchestrator.laws.newton import huber, huber_weights
from orchestrator.laws.powers_objective import Objective
from orchestrator.laws.result import Floats

GRID_BOUNDS = (0.02, 2.5)
GRID_SIZE = {1: 48, 2: 20}  # nodes an exponent, by the number of exponents
REWEIGHTINGS = 12
REPLICATE_NODES = 64  # grid nodes among which a replicate looks for its start
RIDGE = 1e-12  # relative, against terms that are parallel to machine precision
# Where a prediction is too high by more than this, in log loss, it is brought down in several steps: one
# first-order step would lead below zero, and no coefficient would be left. A guess.
MOST_RESIDUAL = 0.9
# Log losses further than this from their mean are no losses; here their squares must not overflow.
MOST_SPREAD = 50.0
# Smallest coefficient of a start, as a part of the mean loss: from zero, its logarithm would never rise.
LEAST_START = 0.02


@dataclass(frozen=True, kw_only=True)
class ExponentGrid:
    """The grid's nodes with their best coefficients, and the linear problem that gave them.

    `theta` is (nodes, parameters) as newton.py has them, `value` (nodes,) the objective. At a node the
    log residuals are `residuals` + (design @ coefficients - 1) to first order; `design` is
    (nodes, points, 1 + terms).
    """

    exponents: int
    theta: Floats
    value: Floats
    design: Floats
    residuals: Floats

    def valleys(self) -> npt.NDArray[np.intp]:
        """Nodes that lie no higher than any neighbour, lowest first."""
        shape = (GRID_SIZE[self.exponents],) * self.exponents
        table = np.pad(self.value.reshape(shape), 1, constant_values=np.inf)
        inner = (slice(1, -1),) * self.exponents
        lowest = np.ones(shape, dtype=bool)
        for shift in product((-1, 0, 1), repeat=self.exponents):
            lowest &= table[inner] <= np.roll(table, shift, axis=tuple(range(self.exponents)))[inner]
        nodes = np.flatnonzero(lowest)
        return nodes[np.argsort(self.value[nodes], kind="stable")]

    def starts(self, weights: Floats) -> Floats:
        """A start for each row of weights (rows, points): its best node, to first order."""
        nodes = np.argsort(self.value, kind="stable")[:REPLICATE_NODES]
        residuals, design = self.residuals[nodes], self.design[nodes]
        reweighted = huber_weights(residuals)
        columns = np.concatenate([design, (1 - residuals)[:, :, None]], axis=2)
        squares = (reweighted[:, :, None, None] * columns[:, :, :, None] * columns[:, :, None, :]) / 2
        unexplained = huber(residuals) - reweighted * residuals**2 / 2
        features = np.concatenate([squares.reshape(*squares.shape[:2], -1), unexplained[:, :, None]], axis=2)
        sums = np.tensordot(weights, features, axes=(1, 1))
        width = columns.shape[2]
        grams = sums[:, :, :-1].reshape(len(weights), len(nodes), width, width)
        coefficients, explained = nonnegative_least_squares(grams[..., :-1, :-1], grams[..., :-1, -1])
        best = np.argmin(grams[..., -1, -1] - explained + sums[:, :, -1], axis=1)
        theta: Floats = self.theta[nodes[best]]
        theta[:, : width - 1] = _log_coefficients(coefficients[np.arange(len(best)), best])
        return theta


def solve_grid(objective: Objective) -> ExponentGrid:
    """The best coefficients at every node, by reweighted least squares on log loss."""
    exponents = len(set(objective.shared))
    axis = np.geomspace(*GRID_BOUNDS, GRID_SIZE[exponents])
    nodes = np.stack(np.meshgrid(*[axis] * exponents, indexing="ij"), axis=-1).reshape(-1, exponents)
    powers = np.exp(-nodes[:, objective.shared][:, :, None] * objective.x)
    terms = np.concatenate([np.ones_like(powers[:, :1]), powers], axis=1).transpose(0, 2, 1)
    relative = terms / np.exp(np.clip(objective.log_loss, -MOST_SPREAD, MOST_SPREAD))[:, None]
    design, residuals = relative, np.zeros(relative.shape[:2])
    for _ in range(REWEIGHTINGS):
        weighted = huber_weights(residuals)[:, :, None] * design
        gram = design.transpose(0, 2, 1) @ weighted
        wanted = 1 - np.minimum(residuals, MOST_RESIDUAL)
        coefficients, _ = nonnegative_least_squares(gram, np.einsum("gik,gi->gk", weighted, wanted))
        prediction = np.einsum("gik,gk->gi", relative, coefficients)
        design, residuals = relative / prediction[:, :, None], np.log(prediction)
    theta = np.concatenate([_log_coefficients(coefficients), nodes], axis=1)
    value = huber(residuals).sum(axis=1)
    return ExponentGrid(exponents=exponents, theta=theta, value=value, design=design, residuals=residuals)


def nonnegative_least_squares(gram: Floats, moment: Floats) -> tuple[Floats, Floats]:
    """Minimise c'Gc/2 - m'c over c >= 0 for a batch of small problems, by trying every set of positive c.

    `gram` is (..., p, p), `moment` (..., p). Returns c and m'c/2, by how much it lowers the sum of squares' half.
    """
    scale = 1 / np.sqrt(np.einsum("...ii->...i", gram) + np.finfo(float).tiny)
    gram, moment = gram * scale[..., :, None] * scale[..., None, :], moment * scale
    best = np.zeros_like(moment)
    explained = np.full(moment.shape[:-1], -np.inf)
    for size in range(1, moment.shape[-1] + 1):
        for chosen in combinations(range(moment.shape[-1]), size):
            block = gram[..., np.array(chosen)[:, None], np.array(chosen)] + RIDGE * np.eye(size)
            part = np.linalg.solve(block, moment[..., chosen, None])[..., 0]
            gain = np.einsum("...i,...i->...", part, moment[..., chosen]) / 2
            better = (part >= 0).all(axis=-1) & (gain > explained)
            explained = np.where(better, gain, explained)
            whole = np.zeros_like(moment)
            whole[..., chosen] = part
            best = np.where(better[..., None], whole, best)
    return best * scale, explained


def _log_coefficients(coefficients: Floats) -> Floats:
    logs: Floats = np.log(np.maximum(coefficients, LEAST_START))
    return logs
