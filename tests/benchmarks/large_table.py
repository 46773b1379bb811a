"""How long `scalesweep fit` takes, and how much memory, on 2,000 runs of 200 points: CSV, Parquet, MLflow's reading.

Run as `python tests/benchmarks/large_table.py [csv|parquet|mlflow ...]` with OMP_NUM_THREADS=1; without a word, all.
The command is run as a user runs it, import included. From MLflow it fits one cheap law, so that the reading is what
is timed; writing the store of 2,000 curves first takes some minutes. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from orchestrator.laws import chinchilla
from orchestrator.laws.result import Floats

RUNS, POINTS = 2_000, 200
SCALES = 10
LONGEST_RATIO = 160.0  # tokens_per_param at the end of a run
# The marks of the comparison.
MOST_SECONDS, MOST_BYTES = 60.0, 1e9

EXPERIMENT = "large table"
COMMAND = Path(sysconfig.get_path("scripts")) / "scalesweep"
LOSS = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
# Planted: exponents of params of the best settings, the curvature of log loss in log settings, and the noise.
RATE, BATCH, HALF_LIFE = (0.02, -0.25), (2e4, 0.15), (4e6, 0.2)
CURVATURE = (0.03, 0.015, 0.004)
RUN_NOISE, POINT_NOISE = 3e-3, 5e-4
DOWNSTREAM = {"epsilon": 0.86, "k": 2.2, "gamma": 0.7}


def planted_table(seed: int = 0) -> pa.Table:
    """One row a point: trials of a ladder under a constant schedule, with random settings about planted best ones."""
    rng = np.random.default_rng(seed)
    params = np.repeat(np.geomspace(5e6, 1e9, SCALES), RUNS // SCALES)
    size = params / 1e8
    rate = RATE[0] * size ** RATE[1] * np.exp(rng.uniform(-2, 2, RUNS))
    batch = 2.0 ** np.round(np.log2(BATCH[0] * 4 * size ** BATCH[1]) + rng.uniform(-3, 3, RUNS))
    half_life = HALF_LIFE[0] * size ** HALF_LIFE[1] * np.exp(rng.uniform(-2, 2, RUNS))
    away = (rate / RATE[0] / size ** RATE[1], batch / BATCH[0] / 4 / size ** BATCH[1], half_life / HALF_LIFE[0])
    excess = sum(part * np.log(value) ** 2 for part, value in zip(CURVATURE, away, strict=True))
    tokens = np.round(params[:, None] * LONGEST_RATIO * np.geomspace(1 / 200, 1, POINTS))
    noise = RUN_NOISE * rng.standard_normal((RUNS, 1)) + POINT_NOISE * rng.standard_normal((RUNS, POINTS))
    loss = chinchilla.loss(LOSS, params[:, None], tokens) * np.exp(excess[:, None] + noise)
    error = DOWNSTREAM["epsilon"] - DOWNSTREAM["k"] * np.exp(-DOWNSTREAM["gamma"] * loss)
    of_runs: Mapping[str, Floats] = {
        "params": np.round(params),
        "learning_rate": rate,
        "batch_tokens": batch,
        "beta2": 2 ** (-batch / half_life),
        "seed": np.arange(RUNS, dtype=float),
    }
    of_points = {"tokens": tokens, "loss": loss, "error": np.clip(error, 0.01, 0.99), "steps": tokens / batch[:, None]}
    names = [f"run {number:04d}" for number in range(RUNS)]
    columns = {"run_id": np.repeat(names, POINTS), "schedule": np.repeat("constant", RUNS * POINTS)}
    return pa.table(
        columns
        | {name: np.repeat(values, POINTS) for name, values in of_runs.items()}
        | {name: values.ravel() for name, values in of_points.items()}
    )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Wall-clock and processor seconds of a process, its largest memory in bytes, and what it wrote."""

    wall: float
    cpu: float
    memory: float
    output: str


def cost_of(*command: str, **variables: str) -> Cost:
    """Run a process to its end, with more variables in its environment. Raises CalledProcessError where it fails."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | variables) as process:
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    cpu = usage.ru_utime + usage.ru_stime
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return Cost(wall=time.perf_counter() - began, cpu=cpu, memory=1024 * kilobytes, output=output)


def fit_table(folder: Path, kind: str) -> str:
    """Fit all laws to the table in a file of this kind."""
    path = folder / f"runs.{kind}"
    (csv.write_csv if kind == "csv" else parquet.write_table)(planted_table(), path)
    cost = cost_of(str(COMMAND), "fit", str(path), "--out", str(folder / "out"))
    verdict = "within" if cost.wall < MOST_SECONDS and cost.memory < MOST_BYTES else "BEYOND"
    fitted = json.loads((folder / "out" / "laws.json").read_text())["laws"]
    return (
        f"{kind}: {cost.wall:.1f} s ({cost.cpu:.1f} s of a processor), {cost.memory / 1e6:.0f} MB, "
        f"{verdict} {MOST_SECONDS:.0f} s and {MOST_BYTES / 1e6:.0f} MB; laws: {', '.join(fitted)}\n"
    )


def write_store(uri: str) -> None:
    """The same runs as an MLflow experiment of somebody else's: settings as params, the loss by its tokens."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(uri)
    experiment = client.create_experiment(EXPERIMENT)
    table = planted_table()
    rows = {name: column.to_numpy() for name, column in zip(table.column_names, table.columns, strict=True)}
    for start in range(0, RUNS * POINTS, POINTS):
        run = client.create_run(experiment).info.run_id
        settings = [
            Param(name, str(rows[name][start])) for name in ("params", "learning_rate", "batch_tokens", "beta2")
        ]
        curve = zip(rows["tokens"][start : start + POINTS], rows["loss"][start : start + POINTS], strict=True)
        points = [Metric("loss", float(loss), start, int(tokens)) for tokens, loss in curve]
        client.log_batch(run, points, [*settings, Param("schedule", "constant")])
        client.set_terminated(run)


def read_store(folder: Path) -> str:
    """Read all curves of the store and fit one law."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    began = time.perf_counter()
    write_store(uri)
    written = time.perf_counter() - began
    command = (str(COMMAND), "fit", f"mlflow:{EXPERIMENT}", "--column", "tokens=step", "--law", "frontier", "--json")
    cost = cost_of(*command, MLFLOW_TRACKING_URI=uri)
    return (
        f"mlflow: {cost.wall:.1f} s ({cost.cpu:.1f} s of a processor), {cost.memory / 1e6:.0f} MB for the reading and "
        f"one law; written before in {written:.0f} s\n"
    )


def main(*kinds: str) -> None:
    """Write a line a kind."""
    for kind in kinds or ("csv", "parquet", "mlflow"):
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(read_store(Path(folder)) if kind == "mlflow" else fit_table(Path(folder), kind))
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
