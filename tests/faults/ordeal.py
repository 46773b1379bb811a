"""One sweep of the campaign: what was done to it, and whether what must hold of it holds."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driven import Case, Driver
from hosts import Host
from stage import Stage
from what_holds import (
    curves,
    drivers,
    ended,
    faults_of_record,
    history_of,
    laws_of,
    recovery_s,
    repeated_tokens,
    running,
    trained_otherwise,
)

from orchestrator.ledger import Ended, History, Started
from orchestrator.trial import TrialState

# Without the driver's patience: a sweep that has not ended by then never will. Seconds.
_END_S = 600.0
_OVER = [state.value for state in TrialState if state.ended]
# A fault costs a trial at most what it trained since its last snapshot, which comes every 5 s, and what it takes to
# write one. Seconds.
SNAPSHOT_S, _WRITTEN_S = 5.0, 3.0
# Moments of faults are drawn so that on average their sum is about half of this part of an undisturbed sweep: nearly
# always the last one comes before the sweep is over, and most trials have snapshots when they are hit.
_PART = 1.2


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that must hold, and whether it did; a figure alone where there is nothing to hold."""

    what: str
    found: str
    holds: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A fault: when it was, and which trials were training."""

    what: str
    time: float
    keys: tuple[str, ...]


@dataclass(kw_only=True)
class Ordeal:
    """A sweep on the stage. `sampler` random: it must end as the undisturbed one did."""

    stage: Stage
    name: str
    sampler: str
    chance: random.Random
    faults: int  # that are meant for it
    changes: Mapping[str, Any] = field(default_factory=dict)  # of the sweep file
    snapshots: int = 1  # that a fault may cost a trial
    case: Case = field(init=False)
    run_dir: Path = field(init=False)  # as the driver knows it
    folder: Path = field(init=False)  # the same, as this process sees it
    hits: list[Hit] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.case = self.stage.case(self.name, self.sampler, **self.changes)
        self.run_dir = self.folder = self.case.root / "run"

    def move(self, run_dir: Path, host: Host) -> None:
        """Have the run folder on a disk of that host."""
        self.run_dir, self.folder = run_dir, host.disk / run_dir.relative_to("/")

    @property
    def history(self) -> History:
        """What the ledger says now."""
        return history_of(self.folder)

    @contextmanager
    def driving(self, *extra: str) -> Iterator[Driver]:
        """A driver that has begun to train."""
        before = drivers(self.folder)
        with self.stage.driving(self.case, self.run_dir, *extra) as driver:
            driver.until(lambda: drivers(self.folder) > before and bool(running(self.folder)), "trial")
            yield driver

    def strikes(self, driver: Driver) -> Iterator[None]:
        """The random moments of its faults; fewer where the driver ends before."""
        while len(self.hits) < self.faults and self.comes(driver):
            yield

    def comes(self, driver: Driver) -> bool:
        """Wait for a random moment that leaves room for all faults in a sweep; False where nothing trains any more."""
        latest = _PART * length_s(self.stage.undisturbed) / (self.faults + 1)
        wake = time.monotonic() + self.chance.uniform(0.2, latest)
        while time.monotonic() < wake:
            if driver.process.poll() is not None:
                return False
            time.sleep(0.02)
        return ended(self.folder) < self._planned

    def hit(self, what: str, act: Callable[[], object]) -> Hit:
        """Do it, and remember when, and to whom."""
        keys, over = tuple(trial.key for trial in running(self.folder)), ended(self.folder)
        hit = Hit(what=what, time=time.time(), keys=keys)
        act()
        self.hits.append(hit)
        self.stage.say(f"{self.name}: {what}, {len(keys)} training, {over} of {self._planned} ended")
        return hit

    def finish(self, *extra: str) -> None:
        """Run it to its end. Raises AssertionError with the driver's output where it does not end well."""
        with self.stage.driving(self.case, self.run_dir, *extra) as driver:
            self.await_end(driver)

    def await_end(self, driver: Driver) -> None:
        """Wait for the driver's end. Raises AssertionError with its output unless it ends well."""
        code = driver.exit_code(_END_S)
        assert code == 0, f"exit code {code}:\n{driver.said()}"

    @property
    def has_work(self) -> bool:
        """Whether there is more to train than one worker can hold."""
        return self._planned - ended(self.folder) > 1

    @property
    def _planned(self) -> int:
        return self.case.plan.trials

    def findings(self) -> Iterator[Finding]:
        """What must hold at the end whatever was done, and what it cost."""
        yield self._holds("each proposal ended once, each key trained once", faults_of_record(self.case, self.folder))
        for name, faults in self._stores().items():
            yield self._holds(f"{name} equal to ledger and curves", faults)
        yield self._status()
        if self.sampler == "random":
            yield from self._against_undisturbed()
        else:
            yield self._holds(
                "curves equal to the key trained alone",
                trained_otherwise(self.case, self.folder, self.case.root / "alone"),
            )
        yield from self._costs()

    def _stores(self) -> dict[str, list[str]]:
        script = Path(__file__).with_name("store_checks.py")
        found: dict[str, list[str]] = json.loads(self.stage.python(script, str(self.case.file), str(self.run_dir)))
        return found

    def _status(self) -> Finding:
        """Whether the status says what the ledger says."""
        said = json.loads(self.stage.scalesweep("status", str(self.run_dir), "--json"))
        truth = ended(self.folder)
        over = sum(search["counts"].get(state, 0) for search in said["searches"] for state in _OVER)
        return self._finding("status", f"{over} trials over, {truth} in the ledger", holds=over == truth)

    def _against_undisturbed(self) -> Iterator[Finding]:
        found, expected = curves(self.folder), curves(self.stage.undisturbed)
        same = sum(found.get(key) == curve for key, curve in expected.items())
        points = sum(map(len, expected.values()))
        common = len(found.keys() & expected.keys())
        yield self._finding(
            "trials of the undisturbed sweep", f"{common} of {len(expected)}", holds=found.keys() == expected.keys()
        )
        yield self._finding(
            "curves identical to the last bit", f"{same} of {len(expected)}, {points} points", holds=found == expected
        )
        equal = laws_of(self.folder) == laws_of(self.stage.undisturbed)
        yield self._finding("laws.json from records by key", "equal" if equal else "another", holds=equal)

    def _costs(self) -> Iterator[Finding]:
        lost, whole = repeated_tokens(self.folder), self.case.plan.tokens
        times = [time for hit in self.hits if (time := recovery_s(self.folder, hit.time, hit.keys)) is not None]
        failed = [event for event in self.history.of(Ended) if event.cause is not None]
        yield self._finding("faults", f"{len(self.hits)}, {len(failed)} attempts ended by them")
        beyond = self._restarted()
        yield self._finding(
            "trained again, by no more than since the last snapshot",
            f"{lost:,} of {whole:,} tokens, {lost / whole:.1%}" + "".join(f"; too much: {key}" for key in beyond[:3]),
            holds=not beyond,
        )
        if times:
            middle, most = statistics.median(times), max(times)
            yield self._finding("trials started again", f"after {middle:.1f} s in the middle, {most:.1f} s at most")

    def _restarted(self) -> list[str]:
        """Trials that were trained again by more than their faults explain: their snapshots were not used."""
        beyond_s = self.snapshots * SNAPSHOT_S + _WRITTEN_S
        hits = Counter(key for hit in self.hits for key in hit.keys)
        results = {key: trial.result for key, trial in self.history.trials.items() if trial.result is not None}
        return [
            key
            for key, result in results.items()
            if result.repeated_tokens > hits[key] * beyond_s * result.tokens / result.seconds
        ]

    def _holds(self, what: str, faults: Sequence[str]) -> Finding:
        return self._finding(what, "; ".join(faults[:3]) or "yes", holds=not faults)

    def _finding(self, what: str, found: str, *, holds: bool | None = None) -> Finding:
        return Finding(what=f"{self.name}: {what}", found=found, holds=holds)


def ordeals(
    stage: Stage, name: str, chance: random.Random, times: int, *, each: int, samplers: Sequence[str] = ("random",)
) -> Iterator[Ordeal]:
    """Sweeps, samplers in turn, for `each` faults at most, until all together have had so many."""
    done = number = 0
    each = min(each, -(-times // len(samplers)))  # that every sampler has its turn
    while done < times:
        sampler = samplers[number % len(samplers)]
        ordeal = Ordeal(
            stage=stage, name=f"{name}-{number}", sampler=sampler, chance=chance, faults=min(each, times - done)
        )
        yield ordeal
        assert ordeal.hits, f"{ordeal.name} was over before its first fault"
        done += len(ordeal.hits)
        number += 1


def length_s(folder: Path) -> float:
    """Seconds from the first start of a trial to the last end."""
    history = history_of(folder)
    return float(history.of(Ended)[-1].time - history.of(Started)[0].time)
