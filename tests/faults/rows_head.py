"""Faults of the head: Ray's head killed, the head gone with its disk, its disk full."""

from __future__ import annotations

import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from ordeal import Finding, Ordeal, ordeals
from stage import RAYLET, Stage, within

from orchestrator.ledger import Ended, Started

_HEAD = ("gcs/gcs_server", RAYLET)  # Ray's own programs on a head
# By then a driver without a head has said so and ended. Ray itself ends it after 60 s.
_GIVEN_UP_S = 120.0
_REJOINED_S = 150.0  # nodes look for a head that is gone for 60 s before they start anew
_SAID_SO = 1  # the exit code of a driver that lost its cluster
_OUR_WORDS = "the same command"
_DISK_MIB, _FULL_S = 64, 15.0


def heads_killed(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """SIGKILL of the Ray head; the driver says so and leaves, and the same command goes on with a new one."""
    codes: Counter[int] = Counter()
    said = 0
    for ordeal in ordeals(stage, "head", chance, times, each=5):
        for _ in range(ordeal.faults):
            with ordeal.driving() as driver:
                if not ordeal.comes(driver):
                    break
                before = _starts(stage)
                ordeal.hit("Ray head killed", lambda: stage.a.kill_processes(*_HEAD))
                codes[driver.exit_code(_GIVEN_UP_S)] += 1
                said += _OUR_WORDS in driver.said()
            _await_all(stage, before, hurried=len(ordeal.hits) > 1)
        ordeal.finish()
        yield from ordeal.findings()
    ends = ", ".join(f"{code} ({count} times)" for code, count in codes.items())
    yield Finding(what="exit code of a driver that lost its cluster", found=ends, holds=set(codes) <= {0, _SAID_SO})
    yield Finding(what="it said so in our words", found=f"{said} of {codes[_SAID_SO]}", holds=said >= codes[_SAID_SO])


def disks_lost(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """SIGKILL of Ray head and driver, and the run folder gone: a new head goes on from storage."""
    for ordeal in ordeals(stage, "disk-lost", chance, times, each=5):
        for _ in range(ordeal.faults):
            with ordeal.driving() as driver:
                if not ordeal.comes(driver):
                    break
                before = _starts(stage)
                ordeal.hit("head gone with its disk", lambda: stage.a.kill_processes(*_HEAD))
                driver.send(signal.SIGKILL)
                driver.process.wait()
                shutil.rmtree(ordeal.folder)
            _await_all(stage, before, hurried=len(ordeal.hits) > 1)
        ordeal.finish()
        yield from ordeal.findings()


def _starts(stage: Stage) -> dict[str, int]:
    return {host.name: stage.starts(host) for host in (stage.a, *stage.nodes)}


def _await_all(stage: Stage, before: dict[str, int], *, hurried: bool) -> None:
    """A new head, and nodes that have found it: by themselves, which takes them a minute, or started anew."""
    stage.await_ray(stage.a, before[stage.a.name] + 1, _REJOINED_S)
    for host in stage.nodes:
        if hurried and stage.starts(host) == before[host.name]:
            host.kill_processes(RAYLET)
    for host in stage.nodes:
        stage.await_ray(host, before[host.name] + 1, _REJOINED_S)


def disk_full(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """The disk of the run folder full, then freed: the driver waits."""
    for ordeal in ordeals(stage, "disk-full", chance, times, each=3):
        disk = ordeal.run_dir.parent / "disk"
        disk.mkdir()
        stage.a.run("mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(disk))
        ordeal.move(disk / "run", stage.a)
        with ordeal.driving() as driver:
            for _ in ordeal.strikes(driver):
                filler = ordeal.folder.parent / "filler"
                ordeal.hit("disk full", lambda f=filler: _fill(f))
                time.sleep(_FULL_S)
                filler.unlink()
                events = _events(ordeal)
                within(lambda n=events, o=ordeal: _events(o) > n, 60.0, driver.said)
            ordeal.await_end(driver)
        yield from ordeal.findings()


def _events(ordeal: Ordeal) -> int:
    history = ordeal.history
    return len(history.of(Ended)) + len(history.of(Started))


def _fill(path: Path) -> None:
    """A file that leaves no byte free."""
    with path.open("wb", buffering=0) as file:
        for block in (2**20, 2**12, 1):
            try:
                while file.write(b"\0" * block) == block:
                    pass
            except OSError:
                continue
