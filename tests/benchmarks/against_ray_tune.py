"""Forty trials of about two seconds on two slots: ours, Ray Tune, and the bare training, in one run.

Run as `python tests/benchmarks/against_ray_tune.py`; about four minutes. All three train the same small network with
the same amount of work, report as many points of the curve, and start in a fresh process. Ours and Ray Tune have
Optuna's TPE and MLflow on SQLite. The time is that of the whole process: start-up included, and for ours the
laws and the report, which Ray Tune has not. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

if TYPE_CHECKING:
    from trainers.api import Session, TrialSpec

TRIALS = 40
SLOTS = 2
SECONDS_PER_TRIAL = 2.0
# The marks of the comparison.
TIMES_FASTER = 1.6
POOL_START_S = 6.0

HERE = Path(__file__).resolve()
STEPS_VARIABLE = "BENCHMARK_STEPS"  # work of one trial; the same for all
SECONDS_VARIABLE = "BENCHMARK_SECONDS"  # a file to which each trial appends how long it trained
COMMAND = Path(sysconfig.get_path("scripts")) / "scalesweep"
SHAPE = {"depth": 1, "width": 8, "ffn_width": 16, "heads": 2, "vocab_size": 32, "sequence_length": 16}
WIDTH, ROWS = 128, 256
# The same for every way. One thread a process: two slots are two cores. And glibc keeps its memory, as our workers
# have it: that is worth a fifth of this network's time, and scheduling is compared here, not allocators.
ALIKE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1") | {
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
}
# Figures are refused beyond these, since they would be the machine's and not the programs'. Guesses.
MOST_WALL_TO_CPU = 1.1  # of the bare training: above, somebody else had the processors
MOST_WORK_APART = 1.15  # processor time of a trial between two ways: above, they did not do the same


def learn(steps: int, learning_rate: float, beta2: float, points: int, report: Callable[[int, float], None]) -> None:
    """Adam on a network of two layers: `steps` of equal work, reported at `points` of them."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, WIDTH))
    y = np.tanh(x @ rng.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH))
    weights = rng.standard_normal((2, WIDTH, WIDTH)) / np.sqrt(WIDTH)
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    reported = {steps * (k + 1) // points: k for k in range(points)}
    for step in range(1, steps + 1):
        hidden = np.tanh(x @ weights[0])
        error = hidden @ weights[1] - y
        back = (error @ weights[1].T) * (1 - hidden**2)
        gradient = np.stack([x.T @ back, hidden.T @ error]) / ROWS
        first = 0.9 * first + 0.1 * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        weights -= learning_rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - beta2**step)) + 1e-8)
        if step in reported:
            report(reported[step], float(np.mean(error**2)))


def train(steps: int, learning_rate: float, beta2: float, points: int, report: Callable[[int, float], None]) -> None:
    """Learn, and append seconds and processor seconds, reporting left out, to the file that the environment names."""
    reporting = np.zeros(2)

    def timed_report(number: int, loss: float) -> None:
        began = _clocks()
        report(number, loss)
        reporting[:] += _clocks() - began

    began = _clocks()
    learn(steps, learning_rate, beta2, points, timed_report)
    wall, cpu = _clocks() - began - reporting
    with Path(os.environ[SECONDS_VARIABLE]).open("a") as file:
        file.write(f"{wall} {cpu}\n")


def _clocks() -> np.ndarray:
    return np.array([time.perf_counter(), time.thread_time()])


def train_trial(spec: TrialSpec, session: Session) -> None:
    """The network as scalesweep trains it: a point at each evaluation."""
    from trainers.api import CurvePoint

    rate = spec.settings.learning_rate

    def report(number: int, loss: float) -> None:
        session.emit(CurvePoint(tokens=spec.eval_tokens[number], loss=loss, time=time.time(), learning_rate=rate))

    train(int(os.environ[STEPS_VARIABLE]), rate, spec.settings.beta2, len(spec.eval_tokens), report)


def sweep_file(folder: Path) -> Path:
    """One scale, forty trials, Optuna's TPE."""
    content = {
        "name": "benchmark",
        "ladder": [{"name": "s1", **SHAPE}],
        "tokens_per_param": [20],
        "trials": TRIALS,
        "space": {
            "learning_rate": {"low": 1e-4, "high": 1e-1},
            "batch_size": {"low": 1, "high": 8},
            "beta2": {"low": 0.9, "high": 0.999},
        },
        "sampler": "tpe",
        "trainer": {"name": f"{HERE.stem}:train_trial"},
        "cluster": {"address": "local", "workers": SLOTS},
    }
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def points_of(file: Path) -> int:
    """Points of each curve of the sweep."""
    from orchestrator import config

    return len(config.load(str(file)).plan().searches[0].eval_tokens)


# Each way runs in a process of its own


def bare(points: int, out: Path) -> None:
    """The training alone: as many processes as slots, each with its share of the trials."""
    with ProcessPoolExecutor(SLOTS) as processes:
        for done in [processes.submit(_bare_share, points, TRIALS // SLOTS) for _ in range(SLOTS)]:
            done.result()
    out.write_text("{}")


def _bare_share(points: int, trials: int) -> None:
    for _ in range(trials):
        train(int(os.environ[STEPS_VARIABLE]), 1e-3, 0.98, points, lambda _number, _loss: None)


def tune(points: int, out: Path) -> None:
    """Ray Tune as its documentation has it, with actors used again."""
    import ray
    from ray import tune as ray_tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    def objective(settings: Mapping[str, float]) -> None:
        def report(number: int, loss: float) -> None:
            rate = settings["learning_rate"]
            ray_tune.report({"loss": loss, "number": number, "rate": rate})

        train(int(os.environ[STEPS_VARIABLE]), settings["learning_rate"], settings["beta2"], points, report)

    ray.init(num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    space = {
        "learning_rate": ray_tune.loguniform(1e-4, 1e-1),
        "batch_size": ray_tune.choice([1, 2, 4, 8]),
        "beta2": ray_tune.uniform(0.9, 0.999),
    }
    uri = f"sqlite:///{out.parent / 'tune.db'}"
    search = ConcurrencyLimiter(OptunaSearch(metric="loss", mode="min", seed=0), max_concurrent=SLOTS)
    found = ray_tune.Tuner(
        ray_tune.with_resources(objective, {"cpu": 1}),
        param_space=space,
        tune_config=ray_tune.TuneConfig(search_alg=search, num_samples=TRIALS, reuse_actors=True),
        run_config=ray_tune.RunConfig(
            name="benchmark",
            storage_path=str(out.parent / "tune"),
            callbacks=[MLflowLoggerCallback(tracking_uri=uri, experiment_name="benchmark")],
            verbose=0,
        ),
    ).fit()
    out.write_text(json.dumps({"completed": len(found) - found.num_errors}))


def pool(points: int, out: Path) -> None:
    """How long our pool takes to come up: importing Ray, starting it, and two workers that have built the trainer."""
    began = time.perf_counter()
    from orchestrator.engine.pool import RayPool
    from orchestrator.ports import TrainerRef

    started = RayPool(trainer=TrainerRef(name=f"{HERE.stem}:train_trial"), workers=SLOTS)
    started.start()
    out.write_text(json.dumps({"seconds": time.perf_counter() - began}))
    started.close()


def calibrate(points: int, out: Path) -> None:
    """How many steps a trial of SECONDS_PER_TRIAL has on this machine."""
    tried = 200
    began = time.perf_counter()
    learn(tried, 1e-3, 0.98, points, lambda _number, _loss: None)
    steps = round(tried * SECONDS_PER_TRIAL / (time.perf_counter() - began))
    out.write_text(json.dumps({"steps": max(points, steps)}))


WAYS = {"calibrate": calibrate, "bare": bare, "tune": tune, "pool": pool}


# The comparison


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A way's whole process, and what each of its trials trained: seconds, and seconds of a processor."""

    seconds: float
    training: Sequence[float]
    cpu: Sequence[float]
    result: Mapping[str, Any]

    @property
    def ideal(self) -> float:
        """The training alone, spread over the slots without a gap. Seconds."""
        return sum(self.training) / SLOTS


def timed(name: str, command: Sequence[str], folder: Path, steps: int, result: Callable[[], dict[str, Any]]) -> Timing:
    """Run a way. Raises RuntimeError with its output where it fails."""
    seconds_file = folder / f"{name}.seconds"
    environment = os.environ | ALIKE | {STEPS_VARIABLE: str(steps), SECONDS_VARIABLE: str(seconds_file)}
    sys.stderr.write(f"{name} ...\n")
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=HERE.parent, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"{name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    trials = [line.split() for line in seconds_file.read_text().splitlines()] if seconds_file.exists() else []
    training, cpu = [float(wall) for wall, _ in trials], [float(used) for _, used in trials]
    return Timing(seconds=seconds, training=training, cpu=cpu, result=result())


def way(name: str, folder: Path, steps: int, points: int) -> Timing:
    """Run one of WAYS in a process of its own."""
    out = folder / f"{name}.json"
    command = [sys.executable, str(HERE), name, str(points), str(out)]
    return timed(name, command, folder, steps, lambda: json.loads(out.read_text()))


def ours(file: Path, folder: Path, steps: int) -> Timing:
    """`scalesweep run`, from an empty folder to the report."""
    run_folder = folder / "run"

    def result() -> dict[str, Any]:
        shown = subprocess.run([COMMAND, "status", run_folder, "--json"], capture_output=True, check=True)
        return dict(json.loads(shown.stdout))

    return timed("scalesweep", [str(COMMAND), "run", str(file), "--dir", str(run_folder)], folder, steps, result)


def compare(folder: Path) -> str:
    """Run all three and write the table."""
    file = sweep_file(folder)
    points = points_of(file)
    steps = way("calibrate", folder, 0, points).result["steps"]
    plain = way("bare", folder, steps, points)
    mine = ours(file, folder, steps)
    theirs = way("tune", folder, steps, points)
    start = way("pool", folder, steps, points).result["seconds"]
    _check_counts(mine, theirs)
    _check_alike(plain, mine, theirs)
    lines = [
        f"{TRIALS} trials of {np.mean(plain.training):.2f} s on {SLOTS} slots, {points} points each",
        f"{'':46}{'seconds':>7}{'to ideal':>10}{'slots busy':>12}{'cpu a trial':>13}",
        _line("bare training / slots (ideal)", plain.ideal, plain, plain),
        _line("scalesweep, with laws and report", mine.seconds, mine, plain),
        _line("Ray Tune + OptunaSearch + MLflow, reuse_actors", theirs.seconds, theirs, plain),
        f"scalesweep is {theirs.seconds / mine.seconds:.2f} times faster than Ray Tune (mark: {TIMES_FASTER})",
        f"its pool starts in {start:.1f} s (mark: {POOL_START_S:g}); between the first and the last start its slots "
        f"were {mine.result['occupancy']['busy_fraction']:.1%} busy",
    ]
    return "\n".join(lines) + "\n"


def _check_counts(mine: Timing, theirs: Timing) -> None:
    counts = (mine.result["ended"], len(mine.training), theirs.result["completed"], len(theirs.training))
    if set(counts) != {TRIALS}:
        raise RuntimeError(f"trials recorded and trained: ours {counts[:2]}, Ray Tune {counts[2:]}; wanted {TRIALS}")


def _check_alike(plain: Timing, mine: Timing, theirs: Timing) -> None:
    """Raises RuntimeError where the machine was busy, or the trials of two ways were not the same work."""
    busy = sum(plain.training) / sum(plain.cpu)
    work = [float(np.mean(timing.cpu)) for timing in (plain, mine, theirs)]
    shown = ", ".join(f"{seconds:.2f}" for seconds in work)
    if busy > MOST_WALL_TO_CPU:
        raise RuntimeError(f"the bare training took {busy:.2f} times its processor time: leave the machine alone")
    if max(work) / min(work) > MOST_WORK_APART:
        raise RuntimeError(f"processor seconds of a trial, bare, ours and Ray Tune: {shown}; not the same work")


def _line(name: str, seconds: float, timing: Timing, plain: Timing) -> str:
    return (
        f"{name:46}{seconds:7.1f}{seconds / plain.ideal:10.2f}{timing.ideal / seconds:12.0%}{np.mean(timing.cpu):13.2f}"
    )


def main() -> None:
    """One way, or the comparison of all."""
    if len(sys.argv) == 4:
        name, points, out = sys.argv[1:]
        WAYS[name](int(points), Path(out))
        return
    with tempfile.TemporaryDirectory(prefix="against-ray-tune-") as folder:
        sys.stdout.write(compare(Path(folder)))


if __name__ == "__main__":
    main()
