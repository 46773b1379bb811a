"""Sweeps run and counted: coverage with its error, where the sweep is the unit, and how often a law is weak."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from calibrating.checks import Check, Kind
from calibrating.designs import DESIGNS, Design

from orchestrator.laws.registry import fit_laws
from orchestrator.laws.result import Status

# What 95 % intervals should cover, up to binomial error.
LOWEST, HIGHEST = 0.92, 0.98
# Most of the sweeps of well-posed designs that may be weak.
MOST_WEAK = 0.05
NORMAL_95 = 1.96


@dataclass(frozen=True, kw_only=True)
class Job:
    """One sweep of a design, by its number there."""

    design: str
    sweep: int
    draws: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One law fitted to one sweep. `reason` says why it is weak or was not fitted; empty where it is ok."""

    design: str
    sweep: int
    law: str
    well_posed: bool
    checks: tuple[Check, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """A proportion with its standard error over sweeps, whose checks are correlated."""

    value: float
    stderr: float
    count: int

    @property
    def low(self) -> float:
        """Lower end of its 95 % interval."""
        return self.value - NORMAL_95 * self.stderr

    @property
    def high(self) -> float:
        """Upper end of its 95 % interval."""
        return self.value + NORMAL_95 * self.stderr


def jobs(sweeps: int, *, draws: int, designs: Sequence[Design] = DESIGNS) -> list[Job]:
    """So many sweeps in all, spread over the designs by their shares."""
    shares = np.cumsum([0.0, *(design.share for design in designs)])
    ends = np.round(sweeps * shares / shares[-1]).astype(int)
    return [
        Job(design=design.name, sweep=sweep, draws=draws)
        for design, count in zip(designs, np.diff(ends), strict=True)
        for sweep in range(count)
    ]


def run(job: Job) -> list[Outcome]:
    """Make the sweep, fit its laws and check them."""
    design = next(design for design in DESIGNS if design.name == job.design)
    seed = crc32(f"{job.design} {job.sweep}".encode())
    report = fit_laws(design.table(seed), names=list(design.laws), seed=job.sweep, draws=job.draws)
    outcomes = []
    for name, judged in design.laws.items():
        law = report.laws.get(name)
        outcomes.append(
            Outcome(
                design=job.design,
                sweep=job.sweep,
                law=name,
                well_posed=judged.well_posed,
                checks=() if law is None else tuple(judged.checks(seed, law)),
                reason=report.not_fitted[name] if law is None else "" if law.status is Status.OK else law.reason,
            )
        )
    return outcomes


def coverage(outcomes: Iterable[Outcome], kind: Kind | None = None) -> Part:
    """The part of checks that held, of all or of one kind; NaN where there are none."""
    held: dict[tuple[str, int], list[bool]] = {}
    for outcome in outcomes:
        own = held.setdefault((outcome.design, outcome.sweep), [])
        own += [check.held for check in outcome.checks if kind in {None, check.kind}]
    return _part([(sum(own), len(own)) for own in held.values() if own])


def weak(outcomes: Iterable[Outcome]) -> Part:
    """The part of the fits that are weak, or failed."""
    found: dict[tuple[str, int], list[bool]] = {}
    for outcome in outcomes:
        found.setdefault((outcome.design, outcome.sweep), []).append(bool(outcome.reason))
    return _part([(sum(own), len(own)) for own in found.values()])


def _part(counts: Sequence[tuple[int, int]]) -> Part:
    """From (of them, of all) in each sweep; the error is that of a ratio of sums over independent sweeps."""
    total = sum(count for _, count in counts)
    if not total:
        return Part(value=math.nan, stderr=math.nan, count=0)
    value = sum(held for held, _ in counts) / total
    squares = sum((held - value * count) ** 2 for held, count in counts)
    enough = len(counts) / max(len(counts) - 1, 1)
    return Part(value=value, stderr=math.sqrt(enough * squares) / total, count=total)
