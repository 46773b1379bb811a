"""What a sweep is for, and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a sweep is for, and what it may cost; None where it was not said.

    `target` is (params, tokens) of the run that is to be predicted; `regret` the expected relative loss
    above the best there at which the sweep has told enough. `flops` are FLOP of all trials, `device_hours`
    hours of workers.
    """

    target: tuple[float, float] | None = None
    flops: float | None = None
    device_hours: float | None = None
    regret: float | None = None
