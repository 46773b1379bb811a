"""Settings as coordinates: natural logarithms, of the half-life in steps for beta2."""

from __future__ import annotations

import math

from orchestrator.laws.records import RunRecord
from orchestrator.laws.selection import CellRuns

SETTINGS = ("learning_rate", "batch_tokens", "beta2")


def half_life_steps(beta2: float) -> float:
    """Steps after which AdamW's second moment has forgotten half: beta2 = 2^(-1/steps). Infinite for 1."""
    return -math.log(2) / math.log(beta2) if beta2 < 1 else math.inf


def beta2_of(half_life: float) -> float:
    """The inverse of `half_life_steps`."""
    return float(2 ** (-1 / half_life))


def coordinate(run: RunRecord, setting: str) -> float:
    """Natural logarithm of a setting (of its half-life in steps for beta2)."""
    value = getattr(run, setting)
    return math.log(half_life_steps(value)) if setting == "beta2" else math.log(value)


def from_coordinate(place: float, setting: str) -> float:
    """The inverse of `coordinate`."""
    return beta2_of(math.exp(place)) if setting == "beta2" else math.exp(place)


def tried(cell: CellRuns, setting: str) -> list[float]:
    """A setting's coordinates in a cell, unsorted; diverged runs count for the learning rate."""
    also = cell.diverged if setting == "learning_rate" else ()
    return [coordinate(run, setting) for run in (*cell.runs, *also) if getattr(run, setting) is not None]
