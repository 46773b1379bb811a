"""What is measured between two points of a curve, and whether a trial diverges."""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainers.api import TrialDiverged
from trainers.lm.step import StepResult

# Steps over which the training loss is averaged before it is judged.
_WINDOW_STEPS = 8
# A mean loss this many times that of guessing all tokens alike is far above any start. A guess.
_DIVERGED_RATIO = 1.5
_SUMS = ("seconds", "_steps", "_loss_sum", "_grad_norm_sum", "_window_steps", "_window_loss")


class Meter:
    """Sums since the last point, added step by step, so that a resumed run sums alike.

    Losses are fetched a window at a time: on a GPU each fetch waits for all that was asked of it.
    """

    def __init__(self, uniform_loss: float) -> None:
        self.seconds = 0.0
        self._uniform_loss = uniform_loss  # ln(vocabulary): what a model that knows nothing has
        self._steps = 0
        self._loss_sum = self._grad_norm_sum = 0.0
        self._window_steps, self._window_loss = 0, 0.0
        self._pending: list[StepResult] = []

    def add(self, result: StepResult) -> None:
        """Count a step. Raises TrialDiverged, at most a window late."""
        self._pending.append(result)
        if len(self._pending) >= _WINDOW_STEPS:
            self._settle()

    @property
    def train_loss(self) -> float:
        """Mean training loss since the last point, nats per token. Raises TrialDiverged."""
        self._settle()
        return self._loss_sum / self._steps

    @property
    def grad_norm(self) -> float:
        """Mean gradient norm before clipping since the last point."""
        self._settle()
        return self._grad_norm_sum / self._steps

    def next_interval(self) -> None:
        """A point was emitted."""
        self._settle()
        self._steps, self._loss_sum, self._grad_norm_sum, self.seconds = 0, 0.0, 0.0, 0.0

    def state(self) -> dict[str, float]:
        """All sums, for a checkpoint. Raises TrialDiverged: what diverged is not kept."""
        self._settle()
        return {name: getattr(self, name) for name in _SUMS}

    def restore(self, state: Mapping[str, float]) -> None:
        """The inverse of `state`."""
        for name in _SUMS:
            setattr(self, name, state[name])

    def _settle(self) -> None:
        pending, self._pending = self._pending, []
        for result in pending:
            loss = result.loss.item()
            self._steps += 1
            self._loss_sum += loss
            self._grad_norm_sum += result.grad_norm.item()
            self._judge(loss)

    def _judge(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrialDiverged(f"training loss is {loss}")
        self._window_steps += 1
        self._window_loss += loss
        if self._window_steps < _WINDOW_STEPS:
            return
        mean = self._window_loss / self._window_steps
        self._window_steps, self._window_loss = 0, 0.0
        if mean > _DIVERGED_RATIO * self._uniform_loss:
            raise TrialDiverged(
                f"training loss is {mean:.4g} over {_WINDOW_STEPS} steps, "
                f"where guessing all tokens alike gives {self._uniform_loss:.4g}"
            )
