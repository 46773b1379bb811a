"""A node whose trainers have a clock of their own, an hour ahead."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from textwrap import dedent

from hosts import Host
from ordeal import Finding, Ordeal, ordeals
from stage import Stage

from orchestrator.curves import read_curve
from orchestrator.trial import Trial

_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")  # Debian's place
_HOUR_S = 3600
_SLACK_S = 2.0  # between what a worker and the driver call the start or the end of a trial


def clock_off(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """The clock of one node's trainers is an hour ahead, of the one and of the other in turn."""
    if not _FAKETIME.exists():
        yield Finding(what="not run", found="libfaketime is missing (apt-get install faketime)", holds=False)
        return
    for number, ordeal in enumerate(ordeals(stage, "clock", chance, times, each=1)):
        right, ahead = sorted(stage.nodes, key=lambda host: host.name, reverse=number % 2 == 1)
        stage.renew_node(right)
        _start_ahead(stage, ahead)
        for host in stage.nodes:
            stage.await_ray(host)
        with ordeal.driving() as driver:
            ordeal.hit(f"the clock of {ahead.name}'s trainers an hour ahead", lambda: None)
            ordeal.await_end(driver)
        yield from _by_the_clock(ordeal)
        yield from ordeal.findings()


def _start_ahead(stage: Stage, host: Host) -> None:
    """Start a node anew, with the script that Ray's workers run replaced by one that sets the clock first.

    Ray's own daemons keep the right time: under libfaketime the raylet aborts. The monotonic clock is an hour
    ahead too: where libfaketime 0.9.10 is to leave it alone, it breaks time.sleep and waits with a time-out.
    """
    found = importlib.util.find_spec("ray._private.workers.default_worker")
    assert found is not None
    assert found.origin is not None
    folder = stage.root / f"clock-{host.name}"
    folder.mkdir(exist_ok=True)
    worker, first = folder / "worker.py", folder / "first.py"
    worker.write_text(Path(found.origin).read_text())
    preload = {"LD_PRELOAD": str(_FAKETIME), "FAKETIME": f"+{_HOUR_S}"}
    first.write_text(
        dedent(f"""\
        import os, sys
        os.environ |= {preload!r}
        os.execv(sys.executable, [sys.executable, "-u", {str(worker)!r}, *sys.argv[1:]])
        """)
    )
    stage.renew_node(host, lambda: host.run("mount", "--bind", str(first), str(found.origin)))


def _by_the_clock(ordeal: Ordeal) -> Iterator[Finding]:
    """Whether a clock was off, and whether anything but the points' own times was."""
    history = ordeal.history
    trials = list(history.trials.values())
    shifts = {trial.key: _shift_s(ordeal, trial) for trial in trials}
    off = sum(shift == _HOUR_S for shift in shifts.values())
    yield Finding(
        what=f"{ordeal.name}: trials with times an hour ahead, with right times",
        found=f"{off}, {sum(shift == 0 for shift in shifts.values())} of {len(trials)}",
        holds=0 < off < len(trials) and None not in shifts.values(),
    )
    wrong = [trial.key for trial in trials if not _in_order(ordeal, trial)]
    yield Finding(what=f"{ordeal.name}: points in order", found=f"{len(wrong)} curves are not", holds=not wrong)
    wrong = [trial.key for trial in trials if not _sound_seconds(trial)]
    yield Finding(what=f"{ordeal.name}: seconds of a trial", found=f"{len(wrong)} are wrong", holds=not wrong)
    times = [event.time for event in history.events]
    rising = all(one <= other for one, other in pairwise(times))
    yield Finding(
        what=f"{ordeal.name}: the ledger's times", found=f"rise over {times[-1] - times[0]:.0f} s", holds=rising
    )


def _shift_s(ordeal: Ordeal, trial: Trial) -> int | None:
    """By which of the two clocks all points of a trial lie between its start and its end; None for neither."""
    if trial.started_at is None or trial.ended_at is None:
        return None
    low, high = trial.started_at - _SLACK_S, trial.ended_at + _SLACK_S
    curve = read_curve(ordeal.folder, trial.key)
    return next((by for by in (0, _HOUR_S) if all(low <= point.time - by <= high for point in curve)), None)


def _in_order(ordeal: Ordeal, trial: Trial) -> bool:
    """Whether later points have later times."""
    curve = read_curve(ordeal.folder, trial.key)
    return len(curve) > 1 and all(one.time <= other.time for one, other in pairwise(curve))


def _sound_seconds(trial: Trial) -> bool:
    """Whether a trial's training took no more than the time that it had."""
    if trial.started_at is None or trial.ended_at is None or trial.result is None:
        return False
    return 0 < trial.result.seconds <= trial.ended_at - trial.started_at + _SLACK_S
