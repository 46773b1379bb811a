"""Which shape to train at each loss on the way down, and what that costs: Anagnostidis et al. 2023.

At each loss the shape with the least marginal cost is trained. Assumed, as in the paper (arXiv:2311.03233): the
loss alone carries over when the shape changes, without any transient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.laws.result import Floats
from orchestrator.laws.static_curves import flops_at, loss


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A shape whose curve is known: its `parameters` a, b, c, d, each (samples,).

    `first_flops` is where its measurements begin: at higher losses it is no candidate.
    """

    params: float
    flops_per_token: float
    first_flops: float
    last_flops: float
    parameters: dict[str, Floats]


@dataclass(frozen=True, kw_only=True)
class Traversal:
    """Arrays (samples, levels) along falling `loss` (levels,).

    `shape` is trained down to the level, `flops` and `tokens` are what that took from the start;
    `static_flops` is the compute of the best shape that never changes, and `static_shape` its number.
    Compute is infinite and the shape -1 where nothing has reached the level.
    """

    loss: Floats
    shape: npt.NDArray[np.intp]
    flops: Floats
    tokens: Floats
    static_flops: Floats
    static_shape: npt.NDArray[np.intp]

    @classmethod
    def unreached(cls, levels: Floats, samples: int) -> Traversal:
        """A traversal in which nothing has reached any level."""
        infinite = np.full((samples, len(levels)), np.inf)
        nobody = np.full((samples, len(levels)), -1, dtype=np.intp)
        return cls(
            loss=levels,
            shape=nobody,
            flops=infinite,
            tokens=infinite.copy(),
            static_flops=infinite.copy(),
            static_shape=nobody.copy(),
        )

    @property
    def saved(self) -> Floats:
        """Part of the best static shape's compute that is saved, (samples, levels); NaN where nothing gets there."""
        reached = np.isfinite(self.static_flops)
        with np.errstate(invalid="ignore"):
            part: Floats = np.where(reached, 1 - self.flops / np.where(reached, self.static_flops, 1.0), np.nan)
        return part

    def first_level(self, shape: int) -> npt.NDArray[np.intp]:
        """The level at which each sample begins to train a shape, (samples,); -1 where it never does."""
        trained = self.shape == shape
        return np.where(trained.any(axis=1), trained.argmax(axis=1), -1)


def traverse(shapes: Sequence[Shape], levels: Floats) -> Traversal:
    """The cheapest way down the levels of loss, in every sample.

    A shape may also be begun from scratch where its measurements begin, if that is cheaper.
    """
    parameters = {name: np.stack([shape.parameters[name] for shape in shapes]) for name in shapes[0].parameters}
    per_token = np.array([shape.flops_per_token for shape in shapes])
    tops = loss(parameters, np.array([[shape.first_flops] for shape in shapes]))
    found = Traversal.unreached(levels, tops.shape[1])
    samples = np.arange(tops.shape[1])
    flops, tokens, before = np.full(len(samples), np.inf), np.full(len(samples), np.inf), np.full(tops.shape, np.inf)
    for at, level in enumerate(levels):
        static = np.where(level <= tops, flops_at(parameters, level), np.inf)
        known = np.isfinite(before) & np.isfinite(static)
        steps = np.where(known, static - np.where(known, before, 0.0), np.inf)
        onward, scratch = np.argmin(steps, axis=0), np.argmin(static, axis=0)
        lowest = static[scratch, samples]
        begins = lowest < flops + steps[onward, samples]
        shape = np.where(begins, scratch, onward)
        spent = np.where(begins, lowest, steps[onward, samples])
        flops, tokens = np.where(begins, 0.0, flops) + spent, np.where(begins, 0.0, tokens) + spent / per_token[shape]
        found.flops[:, at], found.tokens[:, at], found.static_flops[:, at] = flops, tokens, lowest
        found.shape[:, at], found.static_shape[:, at] = np.where(np.isfinite(flops), shape, -1), scratch
        before = static
    return found
