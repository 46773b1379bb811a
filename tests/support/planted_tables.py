"""Tables of runs on planted surfaces of the loss, with the luck of runs and the noise of points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from orchestrator.laws import chinchilla, data_constrained, downstream
from orchestrator.laws.records import RunRecord

Surface = Callable[[float, float], float]

HOFFMANN = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
# Muennighoff et al. 2023: their base fit (alpha = beta) and the two scales of decay.
MUENNIGHOFF = {
    "E": float(np.exp(0.6254804)),
    "A": float(np.exp(6.255414)),
    "B": float(np.exp(7.3049974)),
    "alpha": 0.3526596,
    "beta": 0.3526596,
    "R_D": 15.387756,
    "R_N": 5.309743,
}


def ladder_runs(
    rng: np.random.Generator,
    surface: Surface,
    *,
    params: Iterable[float],
    tokens: Callable[[float], Iterable[float]],
    noise: float,
    curves: bool = False,
) -> list[RunRecord]:
    """Every size at several token counts; with `curves` these are points of one run, which share its luck.

    `noise` is relative: of a run, and a fifth of it of each point of a curve.
    """
    records = []
    for size in params:
        luck = noise * rng.standard_normal()
        for count in tokens(size):
            own = luck + noise / 5 * rng.standard_normal() if curves else noise * rng.standard_normal()
            records.append(
                RunRecord(
                    run_id=f"{size:.4g}" if curves else f"{size:.4g} {count:.4g}",
                    params=float(size),
                    tokens=float(count),
                    loss=float(surface(size, count) * np.exp(own)),
                    schedule="constant",
                )
            )
    return records


def isoflop_runs(
    rng: np.random.Generator,
    surface: Surface,
    *,
    flops: Iterable[float],
    centre: Callable[[float], float],
    shifts: Iterable[float],
    noise: float,
    off_centre: float = 0.0,
) -> list[RunRecord]:
    """Runs of equal compute: sizes at `shifts` in log params around a centre that is off by chance."""
    shifts = np.array(list(shifts))
    records = []
    for compute in flops:
        middle = centre(compute) * np.exp(rng.uniform(-off_centre, off_centre))
        for size in middle * np.exp(shifts):
            count = compute / (6 * size)
            loss = surface(size, count) * np.exp(noise * rng.standard_normal())
            name = f"{compute:.3g} {size:.3g}"
            records.append(
                RunRecord(run_id=name, params=float(size), tokens=float(count), flops=float(compute), loss=float(loss))
            )
    return records


def with_errors(
    rng: np.random.Generator, records: Iterable[RunRecord], law: Mapping[str, float], *, scatter: float
) -> list[RunRecord]:
    """The same runs with downstream errors of their measured losses; without where that is no part of 1."""
    measured = []
    for record in records:
        error = float(downstream.error(law, record.loss or 0.0) + scatter * rng.standard_normal())
        measured.append(replace(record, error=error if 0 < error < 1 else None))
    return measured


def repeated_runs(
    seed: int,
    *,
    sizes: int = 7,
    noise: float = 0.003,
    curves: bool = False,
    unique: tuple[float, ...] = (1e8, 4e8, 1.5e9),
) -> list[RunRecord]:
    """Runs on datasets of these sizes for 1 to 80 epochs, and on new tokens; see MUENNIGHOFF."""
    rng = np.random.default_rng(seed)
    records = []
    for params in np.geomspace(7e6, 1e9, sizes):
        runs = [(ratio * params, None) for ratio in (5, 20, 60)]
        runs += [(epochs * known, known) for known in unique for epochs in (1, 2, 4, 10, 30, 80)]
        luck = {known: rng.standard_normal() for known in (None, *unique)}
        for tokens, known in runs:
            own = luck[known] + 0.25 * rng.standard_normal() if curves else rng.standard_normal()
            exact = float(data_constrained.loss(MUENNIGHOFF, params, tokens, known or tokens))
            name = f"{params:.3g} {known}" if curves else f"{params:.3g} {tokens:.3g} {known}"
            records.append(
                RunRecord(
                    run_id=name,
                    params=params,
                    tokens=tokens,
                    unique_tokens=known,
                    loss=exact * float(np.exp(noise * own)),
                    schedule="constant" if curves else "cosine",
                )
            )
    return records


def hoffmann(params: float, tokens: float) -> float:
    """The loss on HOFFMANN's surface."""
    return float(chinchilla.loss(HOFFMANN, params, tokens))
