"""A sweep of tiny language models, its driver as a process that can be killed, and what must hold afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from orchestrator import config, ledger
from orchestrator.curves import read_curve, trial_folder
from orchestrator.ledger import Ended, History, Opened, Started
from orchestrator.trial import Trial, TrialState
from search_spaces.plan import SweepPlan
from trainers.api import CurvePoint
from trainers.spool import POINTS_FILE

COMMAND = Path(sysconfig.get_path("scripts")) / "scalesweep"
# What of a point is decided by the trial's key. Times and speeds are not.
DECIDED = ("tokens", "loss", "train_loss", "grad_norm", "learning_rate")
# Ray's two agents end up to a minute after the rest: so long they try to report to a head that is gone.
# They carry the second kind of name until they are up.
_LINGERING = ("ray::DashboardAgent", "ray::RuntimeEnvAgent", "/ray/dashboard/agent.py", "/runtime_env/agent/main.py")
_WORKER = "ray::Worker"
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


def make_case(root: Path, *, sampler: str, trials: int, scales: int = 2, tokens_per_param: float = 5) -> Case:
    """Scales of 7 to 12 thousand params on words drawn at random: a second or two a trial, a checkpoint every 0.3 s."""
    (root / "corpus").mkdir(parents=True)
    chance = random.Random(0)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(_WORDS)]
    for number in range(400):
        (root / "corpus" / f"{number:03}.txt").write_text(" ".join(chance.choices(words, k=300)))
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
            "corpus": str(root / "corpus"),
            "validation_tokens": 4096,
            "checkpoint_seconds": 0.3,
            "data_dir": str(root / "data"),
        },
    }
    file = root / "sweep.yaml"
    file.write_text(yaml.safe_dump(content))
    return Case(root=root, file=file)


@dataclass(frozen=True, kw_only=True)
class Departure:
    """How long processes outlived their driver, and the command line of the last one."""

    seconds: float
    last: str


class Driver:
    """`scalesweep run` as a process group of its own. Use `driving`, which leaves nothing behind."""

    def __init__(self, case: Case, folder: Path, *extra: str) -> None:
        self.folder = folder
        self.log = case.root / f"{folder.name}.log"
        command = [str(COMMAND), "run", str(case.file), "--dir", str(folder), *extra]
        with self.log.open("a") as out:
            self.process = subprocess.Popen(command, cwd=case.root, stdout=out, stderr=out, start_new_session=True)
        self.family: set[int] = set()

    def workers(self) -> list[int]:
        """Processes of its Ray workers: descendants of this driver only."""
        self.family |= (found := descendants(self.process.pid))
        return sorted(pid for pid in found if command_of(pid).startswith(_WORKER))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something while the driver runs. Raises AssertionError with its output if it does not come."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, f"the driver ended before {what}:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"no {what}:\n{self.log.read_text()}"
            time.sleep(0.02)

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signal the driver, or its whole process group as a terminal does."""
        self.workers()
        (os.killpg if group else os.kill)(self.process.pid, number)

    def exit_code(self) -> int:
        """Wait for its end."""
        return self.process.wait(PATIENCE_S)

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
def driving(case: Case, folder: Path, *extra: str) -> Iterator[Driver]:
    """A driver that has ended when the block ends, with everything that it started."""
    driver = Driver(case, folder, *extra)
    try:
        yield driver
    finally:
        if driver.process.poll() is None:
            driver.send(signal.SIGKILL)
            driver.process.wait()
        for pid in filter(alive, driver.family):
            os.kill(pid, signal.SIGKILL)


def run_to_the_end(case: Case, folder: Path) -> None:
    """The command, undisturbed. Raises AssertionError with its output if it fails."""
    with driving(case, folder) as driver:
        code = driver.exit_code()
        assert code == 0, f"exit code {code}:\n{driver.log.read_text()}"


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: set[int] = set()
    todo = [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found.update(below)
        todo += below
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    fields = _stat(pid)
    return bool(fields) and fields[0] != "Z"


def command_of(pid: int) -> str:
    """A process's command line, empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _lingers(pid: int) -> bool:
    return any(name in command_of(pid) for name in _LINGERING)


def _stat(pid: int) -> Sequence[str]:
    """State, parent, ... of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ()


# What the record says


def history_of(folder: Path) -> History:
    """The ledger's history, empty before there is one."""
    return ledger.read(folder) if (folder / "ledger.jsonl").exists() else History()


def running(folder: Path) -> list[Trial]:
    """Trials that are being trained now, as the ledger has it."""
    return [trial for trial in history_of(folder).trials.values() if trial.state is TrialState.RUNNING]


def drivers(folder: Path) -> int:
    """How many drivers have opened the folder so far."""
    return len(history_of(folder).of(Opened))


def checkpointed(folder: Path) -> bool:
    """Whether a trial that runs now has a checkpoint to go on from."""
    return any(any(_work(folder, trial).glob("checkpoint-*.bin")) for trial in running(folder))


def decided(points: Sequence[CurvePoint]) -> list[tuple[float | None, ...]]:
    """What of a curve must be equal to the last bit."""
    return [tuple(getattr(point, name) for name in DECIDED) for point in points]


def curves(folder: Path) -> MappingProxyType[str, list[tuple[float | None, ...]]]:
    """The decided part of every trial's curve, by key."""
    return MappingProxyType({key: decided(read_curve(folder, key)) for key in history_of(folder).trials})


def faults_of_record(case: Case, folder: Path) -> list[str]:
    """What is wrong with the ledger and the workers' own records; empty if each trial was trained to its end once."""
    history = history_of(folder)
    found = [f"{key}: not ended" for key, trial in history.trials.items() if not trial.state.ended]
    ends = Counter(event.key for event in history.of(Ended) if event.state.ended)
    found += [f"{key}: ended {count} times" for key, count in ends.items() if count != 1]
    for key, trial in history.trials.items():
        attempts = [event.attempt for event in history.of(Started) if event.key == key]
        if attempts != list(range(1, len(attempts) + 1)):
            found.append(f"{key}: attempts {attempts}")
        reached = (_work(folder, trial) / POINTS_FILE).read_text().count(f'{{"tokens":{trial.tokens},')
        if trial.state is TrialState.COMPLETED and reached != 1:
            found.append(f"{key}: trained to its end {reached} times")
    if len(history.trials) != case.plan.trials:
        found.append(f"{len(history.trials)} trials in the ledger, {case.plan.trials} planned")
    return found


def faults_of_mlflow(folder: Path) -> list[str]:
    """What MLflow has that ledger and curves have not, or the other way round."""
    from orchestrator.tracking.runs import STATUS, TRIAL_TAG
    from orchestrator.tracking.store import connect, store_uri

    client = connect(store_uri(None, folder))
    experiments = [str(each.experiment_id) for each in client.search_experiments()]
    runs = list(client.search_runs(experiments, max_results=5000))
    found = [f"run {run.info.run_name} is RUNNING" for run in runs if run.info.status == "RUNNING"]
    trials = history_of(folder).trials
    of_trials = Counter(run.data.tags[TRIAL_TAG] for run in runs if TRIAL_TAG in run.data.tags)
    if of_trials != Counter(trials.keys()):
        found.append(f"{of_trials.total()} runs of {len(of_trials)} keys, {len(trials)} trials in the ledger")
    if len(runs) - of_trials.total() != 1:
        found.append(f"{len(runs) - of_trials.total()} parent runs")
    for run in runs:
        trial = trials.get(run.data.tags.get(TRIAL_TAG, ""))
        if trial is None:
            continue
        # A driver that leaves marks the runs of unfinished trials as killed, until they go on.
        if run.info.status != (STATUS[trial.state] if trial.state.ended else "KILLED"):
            found.append(f"{trial.key}: {run.info.status} in MLflow, {trial.state} in the ledger")
        stored = [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "loss")]
        if sorted(stored) != [(point.tokens, point.loss) for point in read_curve(folder, trial.key)]:
            found.append(f"{trial.key}: {len(stored)} losses in MLflow are not the curve's")
    return found


def _work(folder: Path, trial: Trial) -> Path:
    return trial_folder(folder, trial.key) / "work"
