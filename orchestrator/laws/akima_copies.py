"""Lowest points of splines through noisy copies of the losses at each compute budget.

Steps 2 to 4 of Porian et al. 2024 (arXiv:2406.19146), with the noise as their code has it and as it was meant.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.laws.akima import lowest
from orchestrator.laws.allocation import Minima
from orchestrator.laws.budgets import Budget
from orchestrator.laws.loss_points import SMALLEST
from orchestrator.laws.result import Floats

# Standard deviation of the loss over seeds at two losses, all in nats per token (their code for RefinedWeb).
# Between them its logarithm is linear in that of the loss. But the code compares log losses with these
# thresholds: as published, the noise is the lower one at every loss.
SEED_NOISE = (0.002, 0.05)
NOISE_LOSSES = (3.0, 7.0)
GRID_POINTS = 25  # points of the fine grid per gap between two sizes


def published_noise(found: Sequence[Budget]) -> list[Floats]:
    """Standard deviation of each loss as the published code has it, an array (sizes,) a budget."""
    return [np.full(len(budget.loss), SEED_NOISE[0]) for budget in found]


def corrected_noise(found: Sequence[Budget]) -> list[Floats]:
    """The same as it was meant: log-log between the two losses, constant outside."""
    return [np.exp(np.interp(np.log(b.loss), np.log(NOISE_LOSSES), np.log(SEED_NOISE))) for b in found]


def noisy_minima(found: Sequence[Budget], noise: Sequence[Floats], *, draws: int, seed: int) -> Minima:
    """Lowest points of the splines through the losses with noise added, all copies at once."""
    rng = np.random.default_rng(seed)
    copies = []
    for budget, sd in zip(found, noise, strict=True):
        losses = budget.loss[:, None] + sd[:, None] * rng.standard_normal((len(budget.loss), draws))
        copies.append(np.log(np.maximum(losses, SMALLEST)))
    return _minima(found, copies)


def shifted_minima(found: Sequence[Budget], shifts: Floats) -> Minima:
    """Lowest points of the splines with each row of shifts (draws, points) added to the log losses."""
    return _minima(found, [np.log(b.loss)[:, None] + shifts[:, b.points].mean(axis=2).T for b in found])


def _minima(found: Sequence[Budget], log_losses: Sequence[Floats]) -> Minima:
    """Lowest points of splines through log losses (sizes, draws) of each budget."""
    logs = []
    for budget, log_loss in zip(found, log_losses, strict=True):
        log_params, height = akima_minimum(np.log(budget.params), log_loss)
        log_tokens, _ = akima_minimum(np.log(budget.tokens), log_loss)
        logs.append([log_params, log_tokens, height])
    log_params, log_tokens, log_loss = np.stack(logs, axis=2)
    return Minima(log_params=log_params, log_tokens=log_tokens, log_loss=log_loss)


def akima_minimum(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Where splines through (x, y[:, draw]) are lowest and how low, (draws,); NaN where that is at an end."""
    found = lowest(x, y, points=GRID_POINTS * (len(x) - 1))
    return np.where(found.inner, found.place, np.nan), np.where(found.inner, found.height, np.nan)
