"""How one set of power laws ties the loss surface of all cells together.

    log L = m(N, D) + q(z),   z = log settings - their power laws at (N, D)

with q as in surface.py. m is free in each cell or E + A / N^alpha + B / D^beta; the third setting is
beta2's half-life in tokens, so that its place in steps is its law less that of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from orchestrator.laws.result import Floats
from orchestrator.laws.surface_form import Ints, pooled_size

LOSS_PARAMETERS = 5  # log E, log A, log B (on centred logs), alpha, beta


@dataclass(frozen=True, kw_only=True)
class Form:
    """A variant of the law.

    `terms` has the sizes ("params", "tokens") that each setting's law depends on; `skewed` lets high
    learning rates be steeper; `relative` has the curvature grow with the reducible part of the loss;
    `parametric` says whether m is a law too; `window` is the excess log loss above a cell's lowest
    within which runs count.
    """

    terms: tuple[tuple[str, ...], ...]
    skewed: bool = True
    relative: bool = False
    parametric: bool = False
    window: float


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Natural logs of params and tokens of the cells, (cells,) each, and the middle that laws are centred on."""

    log_params: Floats
    log_tokens: Floats
    middle: tuple[float, float]

    def __getitem__(self, cells: Ints) -> Sizes:
        return Sizes(log_params=self.log_params[cells], log_tokens=self.log_tokens[cells], middle=self.middle)

    def design(self, terms: tuple[str, ...]) -> Floats:
        """Rows (1, centred logs of the terms), (cells, 1 + terms)."""
        columns = {"params": self.log_params - self.middle[0], "tokens": self.log_tokens - self.middle[1]}
        return np.column_stack([np.ones(self.log_params.size), *(columns[term] for term in terms)])


class JointTie:
    """Floors (one a cell, or the loss law's parameters), law coefficients, curvature, skew -> surface.

    `usual_batch` (cells,) is the log batch of each cell, for where batch is no setting of the surface.
    """

    def __init__(self, form: Form, settings: tuple[str, ...], sizes: Sizes, usual_batch: Floats) -> None:
        self._form, self._settings, self._sizes = form, settings, sizes
        self._cells, count = sizes.log_params.size, len(settings)
        self.floors = LOSS_PARAMETERS if form.parametric else self._cells
        widths = [1 + len(terms) for terms in form.terms]
        self.laws = [slice(sum(widths[:at]), sum(widths[: at + 1])) for at in range(count)]
        self._coefficients = sum(widths)
        self._pooled = pooled_size(count) - (not form.skewed)
        self._linear = self._linear_slopes()
        self._offset = np.zeros(self._linear.shape[0])
        if "beta2" in settings and "batch_tokens" not in settings:
            self._offset[self._places(settings.index("beta2"))] = -usual_batch

    @property
    def size(self) -> int:
        """How many parameters are free."""
        return self.floors + self._coefficients + self._pooled

    def coefficients(self, free: Floats) -> Floats:
        """The laws' coefficients, setting by setting: at the middle, then exponents."""
        return np.asarray(free[..., self.floors : self.floors + self._coefficients])

    def pack(self, floors: Floats, coefficients: Floats, pooled: Floats) -> Floats:
        """The free parameters from their parts."""
        return np.concatenate([floors, coefficients, pooled[: self._pooled]])

    def expand(self, free: Floats) -> Floats:
        """The surface's theta."""
        theta = self._linear @ free + self._offset
        if self._form.parametric:
            theta[: self._cells] = np.log(self._parts(free).sum(axis=0))
        return np.asarray(theta)

    def through(self, free: Floats, jacobian: sparse.csr_array) -> sparse.csr_array | Floats:
        """Slopes by the free parameters, dense: they are few."""
        return np.asarray(jacobian @ self._slopes(free))

    def _slopes(self, free: Floats) -> Floats:
        if not self._form.parametric:
            return self._linear
        parts = self._parts(free)
        shares = parts / parts.sum(axis=0)
        x, y = self._sizes.design(("params", "tokens"))[:, 1:].T
        slopes = self._linear.copy()
        slopes[: self._cells, :LOSS_PARAMETERS] = np.column_stack([*shares, -shares[1] * x, -shares[2] * y])
        return slopes

    def _parts(self, free: Floats) -> Floats:
        """E, A / N^alpha and B / D^beta of each cell, (3, cells)."""
        x, y = self._sizes.design(("params", "tokens"))[:, 1:].T
        e, a, b, alpha, beta = free[:LOSS_PARAMETERS]
        return np.asarray(np.exp(np.clip(np.stack([np.full(x.size, e), a - alpha * x, b - beta * y]), -60, 60)))

    def _places(self, setting: int) -> Ints:
        """Rows of theta that hold a setting's centres."""
        return np.asarray(self._cells + setting + len(self._settings) * np.arange(self._cells))

    def _linear_slopes(self) -> Floats:
        settings = self._settings
        shared, cells = pooled_size(len(settings)), self._cells
        matrix = np.zeros((cells * (1 + len(settings)) + shared, self.size))
        if not self._form.parametric:
            matrix[np.arange(cells), np.arange(cells)] = 1.0
        for number, terms in enumerate(self._form.terms):
            design, part = self._sizes.design(terms), self.laws[number]
            columns = slice(self.floors + part.start, self.floors + part.stop)
            matrix[self._places(number), columns] = design
            if settings[number] == "batch_tokens" and "beta2" in settings:
                matrix[self._places(settings.index("beta2")), columns] = -design
        last = np.arange(self._pooled)
        matrix[matrix.shape[0] - shared + last, self.size - self._pooled + last] = 1.0
        return matrix
