"""Damage to files between two starts: it is noticed, and the file before it used, or it is refused by its line."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from random import Random

from driven import Driver
from ordeal import Finding, Ordeal
from stage import UP_S, Stage, within
from what_holds import running, work_of

_REFUSED = 2  # the exit code
_SAYS_WHERE = re.compile(r"line \d+|\d+ events")  # of the file, or of the record that storage has
_FILES_S = 60.0  # a snapshot comes every 5 s
# A sweep on one machine, whose workers keep their checkpoints in the run folder.
_ALONE = {"cluster": {"address": "local", "workers": 2}, "storage": None}


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Which files to choose the newest of, and what is done to it."""

    what: str
    files: Callable[[Ordeal], Sequence[Path]]
    spoil: Callable[[bytes, Random], bytes]
    refused: bool = False  # until the file is put back


def flipped(data: bytes, chance: Random) -> bytes:
    """One byte another, not in the last line."""
    end = data.rfind(b"\n", 0, len(data) - 1) + 1 or len(data)
    at = chance.choice([i for i in range(end) if data[i] != ord("\n")])
    return data[:at] + bytes([data[at] ^ chance.choice([1, 2, 4, 8])]) + data[at + 1 :]


def cut(data: bytes, chance: Random) -> bytes:
    """The end gone, from anywhere."""
    return data[: chance.randrange(len(data))]


def torn(data: bytes, chance: Random) -> bytes:
    """The last line in part."""
    last = data.rfind(b"\n", 0, len(data) - 1) + 1
    return data[: chance.randrange(last, len(data) - 1)]


def _ledger(ordeal: Ordeal) -> Sequence[Path]:
    return [ordeal.folder / "ledger.jsonl"]


def _curves(ordeal: Ordeal) -> Sequence[Path]:
    """Of several lines."""
    found = (ordeal.folder / "trials").glob("*/curve.jsonl")
    return [path for path in found if path.read_bytes().count(b"\n") > 2]


def _running_curves(ordeal: Ordeal) -> Sequence[Path]:
    keys = {trial.key for trial in running(ordeal.folder)}
    return [path for path in _curves(ordeal) if path.parent.name in keys]


def _ended_curves(ordeal: Ordeal) -> Sequence[Path]:
    keys = {trial.key for trial in ordeal.history.trials.values() if trial.state.ended}
    return [path for path in _curves(ordeal) if path.parent.name in keys]


def _checkpoints(ordeal: Ordeal) -> Sequence[Path]:
    works = [work_of(ordeal.folder, trial) for trial in running(ordeal.folder)]
    return [path for work in works for path in work.glob("checkpoint-*.bin")]


def _stored(pattern: str) -> Callable[[Ordeal], Sequence[Path]]:
    """Objects that storage has of the trials that run."""

    def found(ordeal: Ordeal) -> Sequence[Path]:
        trials = [ordeal.case.root / "storage" / "trials" / trial.key for trial in running(ordeal.folder)]
        return [path for trial in trials for path in trial.glob(pattern)]

    return found


ON_A_CLUSTER = (
    Damage(what="ledger: a byte flipped", files=_ledger, spoil=flipped, refused=True),
    Damage(what="snapshot in storage: a byte flipped", files=_stored("*/object-*"), spoil=flipped),
    Damage(what="ledger: last line torn", files=_ledger, spoil=torn),
    Damage(what="curve: a byte flipped", files=_curves, spoil=flipped, refused=True),
    Damage(what="snapshot in storage: list of files cut", files=_stored("*/manifest-*"), spoil=cut),
    Damage(what="curve of a trial that ended: cut", files=_ended_curves, spoil=cut, refused=True),
)
ON_ONE_MACHINE = (
    Damage(what="checkpoint: a byte flipped", files=_checkpoints, spoil=flipped),
    Damage(what="ledger: a byte flipped", files=_ledger, spoil=flipped, refused=True),
    Damage(what="checkpoint: cut", files=_checkpoints, spoil=cut),
    Damage(what="curve: last line torn", files=_running_curves, spoil=torn),
)


def damaged(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """A ledger, curve, checkpoint or snapshot cut or with a flipped byte before a resume."""
    there = list(islice(cycle(ON_A_CLUSTER), -(-times * 3 // 5)))
    here = list(islice(cycle(ON_ONE_MACHINE), times - len(there)))
    for name, kinds, changes in (("damage", there, {}), ("damage-local", here, _ALONE)):
        if kinds:
            ordeal = Ordeal(
                stage=stage,
                name=name,
                sampler="random",
                chance=chance,
                faults=len(kinds),
                changes=changes,
                snapshots=2,  # the newest may be the one that is spoilt
            )
            for kind in kinds:
                yield from _suffer(ordeal, kind)
            ordeal.finish()
            yield from ordeal.findings()


def _suffer(ordeal: Ordeal, kind: Damage) -> Iterator[Finding]:
    """Kill the driver, spoil a file, and see what the same command says where it must refuse."""
    while True:
        with ordeal.driving() as driver:
            if not ordeal.comes(driver):
                return
            driver.until(lambda: bool(kind.files(ordeal)), f"file for {kind.what!r}", _FILES_S)
            driver.send(signal.SIGKILL)
            driver.process.wait()
            _await_silence(ordeal, driver)
        if kind.files(ordeal):  # their trial may have ended, and they with it, while the driver was killed
            break
    path = max(kind.files(ordeal), key=lambda each: each.stat().st_mtime_ns)
    whole = path.read_bytes()
    ordeal.hit(kind.what, lambda: path.write_bytes(kind.spoil(whole, ordeal.chance)))
    if kind.refused:
        refused, said = _refused(ordeal)
        yield Finding(what=f"{ordeal.name}: {kind.what}", found=said, holds=refused)
        path.write_bytes(whole)


def _await_silence(ordeal: Ordeal, driver: Driver) -> None:
    """What a killed driver's workers write comes to an end."""
    within(lambda: not ordeal.stage.workers(*ordeal.stage.nodes, ordeal.stage.a), UP_S, lambda: "workers left")
    driver.gone()


def _refused(ordeal: Ordeal) -> tuple[bool, str]:
    """Whether the command refuses and says where the damage is; what it says."""
    with ordeal.stage.driving(ordeal.case, ordeal.run_dir) as driver:
        try:
            code = driver.exit_code(UP_S)
        except AssertionError:
            return False, "not noticed"
        text = (driver.said().strip().splitlines() or [""])[-1]
    return code == _REFUSED and _SAYS_WHERE.search(text) is not None, f"exit code {code}: {text[:160]}"
