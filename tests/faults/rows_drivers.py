"""Faults of the driver: killed, asked to leave, started twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from random import Random

from ordeal import Finding, Ordeal, length_s, ordeals
from stage import UP_S, Stage, within
from what_holds import drivers, history_of, running

from orchestrator.ledger import Ended

_GRACE_S = 20.0  # of SIGTERM, as the issue has it
_REFUSED = 2  # the exit code
# A driver was killed: its workers must have ended by then. Ray's own pace, seconds.
_WORKERS_GONE_S = 60.0


def undisturbed(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """The sweep that nobody disturbs, which the others must equal."""
    case = stage.case("undisturbed", "random")
    stage.undisturbed.parent.mkdir(parents=True, exist_ok=True)
    with stage.driving(case, stage.undisturbed) as driver:
        code = driver.exit_code()
        assert code == 0, driver.said()
    failed = [event for event in history_of(stage.undisturbed).of(Ended) if event.cause is not None]
    yield Finding(what="no attempt failed", found=f"{len(failed)} did", holds=not failed)
    yield Finding(what="from the first start to the last end", found=f"{length_s(stage.undisturbed):.0f} s")


def killed(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """SIGKILL of the driver; the same command goes on."""
    gone: list[float] = []
    for ordeal in ordeals(stage, "driver", chance, times, each=7, samplers=("random", "tpe")):
        for _ in range(ordeal.faults):
            with ordeal.driving() as driver:
                if ordeal.comes(driver):
                    ordeal.hit("driver killed", driver.kill)
            gone.append(within(lambda: not stage.workers(), _WORKERS_GONE_S, lambda: "workers left by a driver"))
        ordeal.finish()
        yield from ordeal.findings()
    yield Finding(what="workers were gone after", found=f"{max(gone):.1f} s at most")


def terminated(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """SIGTERM: checkpoints are written, and the driver leaves in time."""
    slowest = 0.0
    for ordeal in ordeals(stage, "sigterm", chance, times, each=5):
        for _ in range(ordeal.faults):
            with ordeal.driving() as driver:
                if not ordeal.comes(driver):
                    break
                ordeal.hit("SIGTERM", lambda d=driver: d.send(signal.SIGTERM))
                began = time.monotonic()
                code = driver.exit_code(_GRACE_S)
                slowest = max(slowest, time.monotonic() - began)
                assert code == 130, f"exit code {code} after SIGTERM:\n{driver.said()}"
                assert not running(ordeal.folder), "trials are running after SIGTERM"
        ordeal.finish()
        yield from ordeal.findings()
    yield Finding(what=f"left within {_GRACE_S:.0f} s of SIGTERM", found=f"{slowest:.1f} s at most", holds=True)


def twins(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """Two drivers started on one folder at the same time: one runs, the other says why not."""
    refused = 0
    for ordeal in ordeals(stage, "twins", chance, times, each=10):
        for _ in range(ordeal.faults):
            refused += _two_at_once(stage, ordeal)
        ordeal.finish()
        yield from ordeal.findings()
    yield Finding(what="of two drivers one was refused", found=f"{refused} of {times}", holds=refused == times)


def _two_at_once(stage: Stage, ordeal: Ordeal) -> bool:
    """Whether one of them was refused. The other one is killed once it trains."""
    case, folder, before = ordeal.case, ordeal.folder, drivers(ordeal.folder)
    with stage.driving(case, folder) as one, stage.driving(case, folder) as other:
        within(lambda: any(each.process.poll() is not None for each in (one, other)), UP_S, one.said)
        loser, winner = (one, other) if one.process.poll() is not None else (other, one)
        winner.until(lambda: drivers(folder) == before + 1 and bool(running(folder)), "trial")
        ordeal.hit("two drivers, the one that runs killed", winner.kill)
        return loser.exit_code() == _REFUSED
