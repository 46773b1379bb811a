"""A sweep of tiny language models, and its driver as a process that can be killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from processes import alive, child_of, command_of, descendants

from orchestrator import config
from search_spaces.plan import SweepPlan

COMMAND = Path(sysconfig.get_path("scripts")) / "scalesweep"
# Ray's two agents end up to a minute after the rest: so long they try to report to a head that is gone.
# They carry the second kind of name until they are up.
_LINGERING = ("ray::DashboardAgent", "ray::RuntimeEnvAgent", "/ray/dashboard/agent.py", "/runtime_env/agent/main.py")
WORKER = "ray::Worker"
PATIENCE_S = 900.0
_GONE_S = 60.0  # a driver was killed: its workers and Ray must have ended by then
_WORDS = 2000


@dataclass(frozen=True, kw_only=True)
class Case:
    """A sweep file and where its run folders go."""

    root: Path
    file: Path

    @property
    def plan(self) -> SweepPlan:
        """The searches of the sweep."""
        return config.load(str(self.file)).plan()


def write_corpus(folder: Path) -> Path:
    """Words drawn at random, the same at every call."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(0)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(_WORDS)]
    for number in range(400):
        (folder / f"{number:03}.txt").write_text(" ".join(chance.choices(words, k=300)))
    return folder


def make_case(
    root: Path,
    *,
    sampler: str,
    trials: int,
    scales: int = 2,
    tokens_per_param: float = 5,
    corpus: Path | None = None,
    **changes: Any,
) -> Case:
    """Scales of 7 to 12 thousand params on words drawn at random: a second or two a trial, a checkpoint every 0.3 s.

    A corpus given is one that other cases use too. `changes` replace sections of the sweep file.
    """
    root.mkdir(parents=True, exist_ok=True)
    corpus = corpus or write_corpus(root / "corpus")
    shape = {"width": 16, "ffn_width": 32, "heads": 2, "vocab_size": 257, "sequence_length": 32}
    content: dict[str, Any] = {
        "name": "faults",
        "ladder": [{"name": f"s{depth}", "depth": depth, **shape} for depth in range(1, scales + 1)],
        "tokens_per_param": [tokens_per_param],
        "trials": trials,
        "backtest": False,
        "space": {
            "learning_rate": {"low": 1e-3, "high": 1e-1},
            "batch_size": {"low": 2, "high": 8},
            "beta2": {"low": 0.9, "high": 0.999},
        },
        "sampler": sampler,
        "cluster": {"address": "local", "workers": 2},
        "trainer": {
            "name": "lm",
            "corpus": str(corpus),
            "validation_tokens": 4096,
            "checkpoint_seconds": 0.3,
            "data_dir": str(corpus.with_name("data")),
        },
    }
    file = root / "sweep.yaml"
    file.write_text(yaml.safe_dump(content | changes))
    return Case(root=root, file=file)


@dataclass(frozen=True, kw_only=True)
class Departure:
    """How long processes outlived their driver, and the command line of the last one."""

    seconds: float
    last: str


class Driver:
    """`scalesweep run` as a process group of its own. Use `driving`, which leaves nothing behind.

    `prefix` is a command that it is run under, such as one that enters another host.
    """

    def __init__(
        self,
        case: Case,
        folder: Path,
        *extra: str,
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.log = case.root / f"{folder.name}.log"
        self._from = self.log.stat().st_size if self.log.exists() else 0
        self._prefixed = bool(prefix)
        command = [*prefix, str(COMMAND), "run", str(case.file), "--dir", str(folder), *extra]
        with self.log.open("a") as out:
            self.process = subprocess.Popen(
                command, cwd=case.root, env=env, stdout=out, stderr=out, start_new_session=True
            )
        self.family: set[int] = set()

    @property
    def pid(self) -> int:
        """The driver's own process, under whatever prefix."""
        return child_of(self.process.pid) if self._prefixed else self.process.pid

    def workers(self) -> list[int]:
        """Processes of its Ray workers: descendants of this driver only."""
        self.family |= (found := descendants(self.process.pid))
        return sorted(pid for pid in found if command_of(pid).startswith(WORKER))

    def until(self, condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        """Wait for something while the driver runs. Raises AssertionError with its output if it does not come."""
        deadline = time.monotonic() + patience_s
        while not condition():
            assert self.process.poll() is None, f"the driver ended before {what}:\n{self.said()}"
            assert time.monotonic() < deadline, f"no {what} within {patience_s:.0f} s:\n{self.said()}"
            time.sleep(0.02)

    def said(self) -> str:
        """Its output so far, the last part of it."""
        return self.log.read_bytes()[self._from :].decode()[-6000:]

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signal the driver, or its whole process group as a terminal does."""
        self.workers()
        if group:
            os.killpg(self.process.pid, number)
        else:
            os.kill(self.pid, number)

    def exit_code(self, patience_s: float = PATIENCE_S) -> int:
        """Wait for its end. Raises AssertionError with its output if it does not come."""
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the driver has not ended within {patience_s:.0f} s:\n{self.said()}") from None

    def kill(self) -> Departure:
        """SIGKILL, and wait until its workers and Ray's own processes are gone too."""
        self.send(signal.SIGKILL)
        self.process.wait()
        return self.gone()

    def gone(self) -> Departure:
        """Wait until nothing of an ended driver runs any more."""
        began, last = time.monotonic(), ""
        while left := [command_of(pid) for pid in self.family if alive(pid) and not _lingers(pid)]:
            last = left[0] or last
            assert time.monotonic() < began + _GONE_S, f"left behind by the driver: {left}"
            time.sleep(0.05)
        return Departure(seconds=time.monotonic() - began, last=last.strip())


@contextmanager
def driving(
    case: Case, folder: Path, *extra: str, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Iterator[Driver]:
    """A driver that has ended when the block ends, with everything that it started."""
    driver = Driver(case, folder, *extra, prefix=prefix, env=env)
    try:
        yield driver
    finally:
        if driver.process.poll() is None:
            with suppress(ProcessLookupError, IndexError, FileNotFoundError):
                driver.send(signal.SIGKILL)
            driver.process.kill()
            driver.process.wait()
        for pid in filter(alive, driver.family):
            os.kill(pid, signal.SIGKILL)


def run_to_the_end(case: Case, folder: Path) -> None:
    """The command, undisturbed. Raises AssertionError with its output if it fails."""
    with driving(case, folder) as driver:
        code = driver.exit_code()
        assert code == 0, f"exit code {code}:\n{driver.said()}"


def _lingers(pid: int) -> bool:
    return any(name in command_of(pid) for name in _LINGERING)
