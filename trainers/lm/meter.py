"""What is measured between two points of a curve, and whether a trial diverges."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

from trainers.api import TrialDiverged
from trainers.lm.step import StepResult

# Steps over which the training loss is averaged before it is judged.
_WINDOW_STEPS = 8
# A mean loss this many times that of guessing all tokens alike is far above any start. A guess.
_DIVERGED_RATIO = 1.5


@dataclass(kw_only=True)
class Meter:
    """Sums since the last point. Whole numbers of steps, so that a resumed run sums alike."""

    uniform_loss: float  # ln(vocabulary): what a model that knows nothing has
    steps: int = 0
    loss_sum: float = 0.0
    grad_norm_sum: float = 0.0
    seconds: float = 0.0
    window_steps: int = 0
    window_loss: float = 0.0

    def add(self, result: StepResult) -> None:
        """Count a step. Raises TrialDiverged."""
        loss = result.loss.item()
        self.steps += 1
        self.loss_sum += loss
        self.grad_norm_sum += float(result.grad_norm.item())
        self._judge(loss)

    @property
    def train_loss(self) -> float:
        """Mean training loss since the last point, nats per token."""
        return self.loss_sum / self.steps

    @property
    def grad_norm(self) -> float:
        """Mean gradient norm before clipping since the last point."""
        return self.grad_norm_sum / self.steps

    def next_interval(self) -> None:
        """A point was emitted."""
        self.steps, self.loss_sum, self.grad_norm_sum, self.seconds = 0, 0.0, 0.0, 0.0

    def state(self) -> dict[str, Any]:
        """All sums, for a checkpoint."""
        return asdict(self)

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Self:
        """The meter of a checkpoint."""
        return cls(**state)

    def _judge(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrialDiverged(f"training loss is {loss}")
        self.window_steps += 1
        self.window_loss += loss
        if self.window_steps < _WINDOW_STEPS:
            return
        mean = self.window_loss / self.window_steps
        self.window_steps, self.window_loss = 0, 0.0
        if mean > _DIVERGED_RATIO * self.uniform_loss:
            raise TrialDiverged(
                f"training loss is {mean:.4g} over {_WINDOW_STEPS} steps, "
                f"where guessing all tokens alike gives {self.uniform_loss:.4g}"
            )
