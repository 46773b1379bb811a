"""Loss curves of planted parameters: Kaplan's constants, solved by bisection, with the luck of runs."""

from __future__ import annotations

import numpy as np

from orchestrator.laws.records import RunRecord

# Kaplan et al. 2020, tables 3 and 5.
KAPLAN = {"N_c": 6.5e13, "alpha_N": 0.077, "S_c": 2.1e3, "alpha_S": 0.76, "B_star": 2.1e8, "alpha_B": 0.21}


def solved_loss(params, steps, batch_tokens):
    """The loss of the implicit law by bisection on its logarithm."""
    law = KAPLAN
    low = np.zeros(np.broadcast(params, steps, batch_tokens).shape)
    high = low + 5.0
    for _ in range(60):
        middle = (low + high) / 2
        batch = law["B_star"] / (batch_tokens * np.exp(middle) ** (1 / law["alpha_B"]))
        right = (law["N_c"] / params) ** law["alpha_N"] + ((law["S_c"] / steps) * (1 + batch)) ** law["alpha_S"]
        above = np.exp(middle) > right
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.exp((low + high) / 2)


def make_curves(
    seed=0, *, sizes=5, least=1e6, batches=4, first=2**14, factor=4, noise=0.005, point_noise=0.0005, points=14
) -> list[RunRecord]:
    """A run a size and batch size; smaller batches train for more steps, as at like token counts."""
    rng = np.random.default_rng(seed)
    records = []
    for params in least * np.geomspace(1, 60, sizes) if sizes > 1 else [least]:
        for batch in first * float(factor) ** np.arange(batches):
            steps = np.geomspace(300, 2e4, points) * (2**17 / batch) ** 0.5
            luck = noise * rng.standard_normal() + point_noise * rng.standard_normal(points)
            records += [
                RunRecord(
                    run_id=f"{params:.4g} {batch:g}", params=params, tokens=step * batch, batch_tokens=batch, loss=loss
                )
                for step, loss in zip(steps, solved_loss(params, steps, batch) * np.exp(luck), strict=True)
            ]
    return records


def runs_at_batches(seed, *, noise=0.003, batches=(3e4, 1.2e5, 5e5, 2e6)) -> list[RunRecord]:
    """Nine sizes at several batch sizes, all for the same steps."""
    rng = np.random.default_rng(seed)
    records = []
    for params in np.geomspace(3e5, 1e8, 9):
        for batch in batches:
            luck = noise * rng.standard_normal()
            steps = np.geomspace(3e3, 1e5, 16)
            for step, loss in zip(steps, solved_loss(params, steps, batch), strict=True):
                records.append(
                    RunRecord(
                        run_id=f"{params:.3g} {batch:.3g}",
                        params=float(params),
                        tokens=float(step * batch),
                        steps=float(step),
                        batch_tokens=float(batch),
                        learning_rate=1e-3,
                        schedule="constant",
                        loss=float(loss * np.exp(luck + noise / 5 * rng.standard_normal())),
                    )
                )
    return records
