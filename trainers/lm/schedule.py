"""The learning rate's course over a run, as a pure function of tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass

from search_spaces.plan import Schedule

# Cosine ends at a tenth of its peak (Hoffmann et al. 2022); the decay of warmup-stable-decay takes the
# last fifth of the run (Hägele et al. 2024).
COSINE_FINAL = 0.1
DECAY_FRACTION = 0.2


@dataclass(frozen=True, kw_only=True)
class Course:
    """A schedule with its lengths in tokens."""

    schedule: Schedule
    warmup_tokens: int
    horizon: int

    def factor(self, tokens: int) -> float:
        """What the learning rate is multiplied by in the step that ends at `tokens`: 0 to 1."""
        if tokens < self.warmup_tokens:
            return tokens / self.warmup_tokens
        if self.schedule is Schedule.COSINE:
            return self._cosine(tokens)
        if self.schedule is Schedule.WSD:
            return self._decay(tokens)
        return 1.0

    def _cosine(self, tokens: int) -> float:
        progress = (tokens - self.warmup_tokens) / max(1, self.horizon - self.warmup_tokens)
        return COSINE_FINAL + (1 - COSINE_FINAL) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2

    def _decay(self, tokens: int) -> float:
        length = DECAY_FRACTION * self.horizon
        progress = (tokens - (self.horizon - length)) / length
        return 1 - math.sqrt(min(max(progress, 0.0), 1.0))


def default_warmup(params: int, shortest_tokens: int) -> int:
    """Tokens of warmup: as many as parameters (Porian et al. 2024), at most a quarter of the shortest cell."""
    return min(params, shortest_tokens // 4)
