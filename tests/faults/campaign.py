"""Kills drivers and workers of real sweeps at random moments, and counts what came of it.

Run as `python tests/faults/campaign.py [SEED]`. Two sweeps of tiny language models under Ray, one with a sampler
without history and one with TPE; in each the driver is killed (SIGKILL) three times and a worker three times, each
time at a moment drawn at random. The same command then goes on. Takes some minutes; exit code 1 if anything that
must hold does not.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from driven import (
    Case,
    Departure,
    Driver,
    alive,
    curves,
    decided,
    drivers,
    driving,
    faults_of_mlflow,
    faults_of_record,
    history_of,
    make_case,
    run_to_the_end,
    running,
)

from orchestrator import config
from orchestrator.ledger import Ended, Proposed, Started
from orchestrator.ports import Assignment, AttemptEnded, PointsArrived, WorkerPool
from orchestrator.proposals.proposer import OptunaProposer
from orchestrator.trial import Trial, spec_of
from trainers.api import CurvePoint

KILLS = 3  # of a driver, and of a worker
# Kills come at moments drawn from the length of an undisturbed sweep, each from this part of it, so that the
# sweep is not over before the last one.
PART = 1 / (2 * KILLS + 2)
TRIALS = 8  # a scale: enough that the sweep outlives its kills


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that must hold, and whether it did; a figure alone where there is nothing to hold."""

    sampler: str
    what: str
    found: str
    holds: bool | None


@dataclass(frozen=True, kw_only=True)
class Ordeal:
    """What was done to a sweep, and what outlived each killed driver."""

    drivers_killed: int
    workers_killed: int
    departures: tuple[Departure, ...]


def torment(case: Case, folder: Path, chance: random.Random, latest_s: float) -> Ordeal:
    """Kill drivers and workers at random moments, each `latest_s` at most after the one before, then run to the end."""
    gone: list[Departure] = []
    workers = 0
    while len(gone) < KILLS:
        with driving(case, folder) as driver:
            before = drivers(folder)
            driver.until(lambda seen=before: drivers(folder) > seen and bool(running(folder)), "trial")
            if workers < KILLS:
                _nap(driver, chance.uniform(0, latest_s))
                workers += _kill_worker(driver, chance)
            _nap(driver, chance.uniform(0, latest_s))
            gone.append(driver.kill())
    with driving(case, folder) as driver:
        while workers < KILLS:  # moments that found no worker
            driver.until(lambda: bool(driver.workers()), "worker")
            workers += _kill_worker(driver, chance)
        assert driver.exit_code() == 0, driver.log.read_text()
    return Ordeal(drivers_killed=len(gone), workers_killed=workers, departures=tuple(gone))


def _nap(driver: Driver, seconds: float) -> None:
    wake = time.monotonic() + seconds
    driver.until(lambda: time.monotonic() >= wake, "moment of the kill")


def _kill_worker(driver: Driver, chance: random.Random) -> bool:
    found = driver.workers()
    if not found:
        return False
    victim = chance.choice(found)
    os.kill(victim, signal.SIGKILL)
    driver.until(lambda: not alive(victim), "end of a killed worker")
    return True


def kept(case: Case, folder: Path, sampler: str, ordeal: Ordeal) -> list[Row]:
    """What must hold whatever the sampler is."""
    history = history_of(folder)
    lost = sum(trial.result.repeated_tokens for trial in history.trials.values() if trial.result)
    share = lost / case.plan.tokens
    failed = [event for event in history.of(Ended) if event.cause is not None]
    counts = (len(history.of(Proposed)), _optuna_trials(case, folder, sampler))
    record, mlflow = faults_of_record(case, folder), faults_of_mlflow(folder)
    slowest = max(ordeal.departures, key=lambda departure: departure.seconds)
    rows = [
        ("driver killed", f"{ordeal.drivers_killed} times, {drivers(folder)} starts", drivers(folder) == KILLS + 1),
        (
            "worker killed",
            f"{ordeal.workers_killed} times, {len(failed)} failed attempts",
            ordeal.workers_killed == KILLS,
        ),
        ("nothing left running after", f"{slowest.seconds:.1f} s at most ({slowest.last[-60:]})", None),
        ("each proposal ended once, each key trained once", _said(record), not record),
        ("trials in ledger, in Optuna", f"{counts[0]}, {counts[1]}", counts[0] == counts[1] == case.plan.trials),
        ("MLflow equal to ledger and curves", _said(mlflow), not mlflow),
        ("trained again (lost work)", f"{lost:,} of {case.plan.tokens:,} tokens, {share:.1%}", None),
    ]
    return [Row(sampler=sampler, what=what, found=found, holds=holds) for what, found, holds in rows]


def _said(faults: list[str]) -> str:
    return "; ".join(faults[:3]) or "yes"


def _optuna_trials(case: Case, folder: Path, sampler: str) -> int:
    """Trials of the studies that a restart builds."""
    proposer = OptunaProposer(sampler=sampler, seed=case.plan.seed)
    for trial in history_of(folder).trials.values():
        proposer.restore(trial, case.plan.search_of(trial.scale, trial.tokens))
    return sum(len(proposer.study(search).trials) for search in case.plan.searches)


def against_undisturbed(folder: Path, whole: Path) -> list[Row]:
    """A sampler without history: the very trials and curves of a sweep that nobody disturbed."""
    found, expected = curves(folder), curves(whole)
    same = sum(found.get(key) == curve for key, curve in expected.items())
    points = sum(map(len, expected.values()))
    rows = [
        (
            "trials of the undisturbed sweep",
            f"{len(found.keys() & expected.keys())} of {len(expected)}",
            found.keys() == expected.keys(),
        ),
        ("curves identical to the last bit", f"{same} of {len(expected)}, {points} points", found == expected),
    ]
    return [Row(sampler="random", what=what, found=text, holds=holds) for what, text, holds in rows]


def against_alone(case: Case, folder: Path, alone: Path) -> Row:
    """A sampler that learns: each curve equal to that of the same key trained alone."""
    from orchestrator.engine.local import LocalPool

    found, trials = curves(folder), history_of(folder).trials
    pool = LocalPool(trainer=config.load(str(case.file)).trainer_ref(), slots=1)
    pool.start()
    try:
        same = sum(found[key] == decided(_train_alone(pool, case, trial, alone)) for key, trial in trials.items())
    finally:
        pool.close()
    text = f"{same} of {len(trials)}"
    return Row(sampler="tpe", what="curves equal to the key trained alone", found=text, holds=same == len(trials))


def _train_alone(pool: WorkerPool, case: Case, trial: Trial, folder: Path) -> list[CurvePoint]:
    sweep = config.load(str(case.file))
    spec = spec_of(trial, case.plan.search_of(trial.scale, trial.tokens))
    pool.submit(
        Assignment(spec=spec, attempt=1, resources=sweep.resources_of(trial.scale), workspace=folder / trial.key)
    )
    points: list[CurvePoint] = []
    while True:
        for event in pool.wait(1.0):
            if isinstance(event, PointsArrived):
                points += event.points
            if isinstance(event, AttemptEnded):
                return points


def campaign(root: Path, seed: int) -> Iterator[Row]:
    """Both sweeps; rows as they come."""
    chance = random.Random(seed)
    steady = make_case(root / "random", sampler="random", trials=TRIALS)
    run_to_the_end(steady, steady.root / "undisturbed")
    latest_s = PART * _length(steady.root / "undisturbed")
    ordeal = torment(steady, steady.root / "killed", chance, latest_s)
    yield from kept(steady, steady.root / "killed", "random", ordeal)
    yield from against_undisturbed(steady.root / "killed", steady.root / "undisturbed")
    learning = make_case(root / "tpe", sampler="tpe", trials=TRIALS)
    ordeal = torment(learning, learning.root / "killed", chance, latest_s)
    yield from kept(learning, learning.root / "killed", "tpe", ordeal)
    yield against_alone(learning, learning.root / "killed", learning.root / "alone")


def _length(folder: Path) -> float:
    """Seconds from the first start of a trial to the last end."""
    history = history_of(folder)
    return float(history.of(Ended)[-1].time - history.of(Started)[0].time)


def main(seed: int) -> int:
    """Write the table out; returns the exit code."""
    broken = 0
    sys.stdout.write(f"seed {seed}\n")
    with tempfile.TemporaryDirectory(prefix="faults-") as root:
        for row in campaign(Path(root), seed):
            broken += row.holds is False
            verdict = {True: "holds", False: "BROKEN", None: ""}[row.holds]
            sys.stdout.write(f"{row.sampler:8}{row.what:50}{row.found:50}{verdict}".rstrip() + "\n")
            sys.stdout.flush()
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else random.SystemRandom().randrange(10**6)))
