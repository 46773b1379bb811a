"""The verbs on a whole small sweep: planted losses, threads instead of Ray, MLflow in the run folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiny
from shell import PATIENCE_S, scalesweep, write_sweep

from orchestrator.curves import read_curve
from orchestrator.ledger import read
from orchestrator.tracking.store import connect, store_uri
from orchestrator.trial import TrialState
from search_spaces.plan import SweepPlan

VERBS = ("fit", "predict", "plan", "prepare", "run", "pause", "stop", "status", "report", "ui", "sync", "doctor")
HEAVY = ("torch", "transformers", "ray", "mlflow", "optuna", "plotly", "scipy", "pyarrow", "pandas")
SPACE = tiny.content()["space"] | {"learning_rate": {"low": 0.01, "high": 1.0}}  # below what diverges
CONTENT = tiny.content(
    space=SPACE, trials=12, replicates=3, sampler="tpe", trainer={"name": "synthetic", "noise_sd": 0.002}
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sweep.yaml and the finished run folder `run`."""
    folder = tmp_path_factory.mktemp("done")
    shown = scalesweep("run", write_sweep(folder, CONTENT), "--dir", "run", cwd=folder)
    assert shown.returncode == 0, shown
    assert shown.stderr == ""
    (folder / "said").write_text(shown.stdout)
    return folder


@pytest.fixture(scope="module")
def plan() -> SweepPlan:
    return tiny.sweep(**CONTENT).plan()


def mlflow_runs(run: Path) -> list:
    """Every run of every experiment of a run folder's store."""
    client = connect(store_uri(None, run))
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def test_a_sweep_leaves_everything_in_its_run_folder(done: Path, plan: SweepPlan) -> None:
    run = done / "run"
    trials = read(run).trials
    assert Counter(trial.state for trial in trials.values()) == {TrialState.COMPLETED: plan.trials}
    for key, trial in trials.items():
        curve = read_curve(run, key)
        assert curve[-1].tokens == trial.tokens
        assert curve[-1].loss == trial.loss
    laws = json.loads((run / "laws.json").read_text())
    assert laws["schema"] == 1
    assert "hyperparameters" in laws["laws"]
    assert all(law["status"] in {"ok", "weak", "failed"} for law in laws["laws"].values())
    table = pq.read_table(run / "runs.parquet")
    served = {search.name: len(search.serves) for search in plan.searches}
    assert table.num_rows == sum(search.planned_trials * served[search.name] for search in plan.searches)
    assert set(table["run_id"].to_pylist()) == set(trials)
    page = (run / "report.html").read_text()
    assert "<html" in page
    assert 'src="http' not in page


def test_it_says_how_it_came_out(done: Path, plan: SweepPlan) -> None:
    said = (done / "said").read_text()
    assert f"{plan.trials}/{plan.trials} trials" in said
    assert "scalesweep ui run" in said
    assert "hyperparameters" in said
    assert "Backtest of" in said
    assert "\x1b" not in said


def test_mlflow_has_each_trial_once_and_a_parent(done: Path, plan: SweepPlan) -> None:
    runs = mlflow_runs(done / "run")
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(runs) == plan.trials + 1
    trials = read(done / "run").trials
    assert {run.data.tags["trial_key"] for run in children} == set(trials)
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in children:
        assert run.data.metrics["final_loss"] == trials[run.data.tags["trial_key"]].loss


def test_the_held_out_scale_was_predicted_before_its_first_trial(done: Path) -> None:
    events = [json.loads(line) for line in (done / "run" / "ledger.jsonl").read_text().splitlines()]
    kinds = [(event["event"], event.get("scale")) for event in events]
    assert kinds.index(("predicted", "s4")) < kinds.index(("proposed", "s4"))
    prediction = events[kinds.index(("predicted", "s4"))]
    assert prediction["runs_used"] == 36
    first = events[kinds.index(("proposed", "s4"))]
    assert first["reason"] == "law optimum"
    assert first["settings"] == prediction["prediction"]["settings"]


def test_running_it_again_trains_nothing(done: Path, plan: SweepPlan) -> None:
    ledger = (done / "run" / "ledger.jsonl").read_bytes()
    shown = scalesweep("run", "sweep.yaml", "--dir", "run", cwd=done)
    assert shown.returncode == 0, shown
    assert "this sweep is done" in shown.stdout
    assert (done / "run" / "ledger.jsonl").read_bytes() == ledger
    assert len(mlflow_runs(done / "run")) == plan.trials + 1


def test_status_in_words_and_for_programs(done: Path, plan: SweepPlan) -> None:
    shown = scalesweep("status", "run", cwd=done)
    assert shown.returncode == 0
    assert shown.stdout.startswith("tiny: done")
    for search in plan.searches:
        assert search.name in shown.stdout
    status = json.loads(scalesweep("status", "run", "--json", cwd=done).stdout)
    assert (status["state"], status["ended"], status["planned"]) == ("done", plan.trials, plan.trials)
    assert status["counts"] == {"completed": plan.trials}
    assert [search["name"] for search in status["searches"]] == [search.name for search in plan.searches]
    watched = scalesweep("status", "run", "--watch", cwd=done)  # comes back: the sweep is over
    assert watched.returncode == 0


def test_report_fits_and_draws_again(done: Path) -> None:
    run = done / "run"
    before = json.loads((run / "laws.json").read_text())
    (run / "laws.json").unlink()
    (run / "report.html").unlink()
    shown = scalesweep("report", "run", cwd=done)
    assert shown.returncode == 0, shown
    assert json.loads((run / "laws.json").read_text()) == before
    assert (run / "report.html").exists()


def test_sync_fills_a_store_that_was_lost(done: Path, plan: SweepPlan) -> None:
    run = done / "run"
    for path in run.glob("mlflow.db*"):
        path.unlink()
    shown = scalesweep("sync", "run", cwd=done)
    assert shown.returncode == 0, shown
    assert "has everything" in shown.stdout
    assert len(mlflow_runs(run)) == plan.trials + 1


def test_trials_that_cannot_be_completed_give_exit_code_1(tmp_path: Path) -> None:
    """Each trial fails with words of its own, so that the sweep does not take it for the program's fault."""
    source = "def train(spec, session):\n    raise ValueError(f'cannot do {spec.key} in attempt {session.attempt}')\n"
    (tmp_path / "mine.py").write_text(source)
    sweep = write_sweep(tmp_path, tiny.content(scales=1, trials=2, replicates=1, trainer="mine:train"))
    shown = scalesweep("run", sweep, "--dir", "run", cwd=tmp_path)
    assert shown.returncode == 1, shown
    assert "2 trials could not be completed; the last said:" in shown.stdout
    assert "ValueError: cannot do" in shown.stdout
    states = [(trial.state, trial.attempt) for trial in read(tmp_path / "run").trials.values()]
    assert states == [(TrialState.FAILED, 2)] * 2


# Answers at once


IMPORTED = """
import sys
from orchestrator.cli import main
try:
    code = main(sys.argv[2:])
except SystemExit as left:
    code = left.code
loaded = [name for name in sys.argv[1].split(",") if name in sys.modules]
sys.exit(f"{code} {loaded}")
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        *(([verb, "--help"], 0) for verb in VERBS),
        (["plan", "laptop"], 0),
        (["plan", "porian"], 0),
        (["plan", "laptop", "--set", "trials=0"], 2),
        (["run", "laptop", "--set", "space.beta2=2"], 2),
        (["run", "laptop", "--set", "trainer.corpsu=x"], 2),
        (["run", "nothing-of-that-name"], 2),
        (["pause", "nowhere"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_needs_no_heavy_package_imports_none(tmp_path: Path, arguments: list[str], code: int) -> None:
    command = [sys.executable, "-c", IMPORTED, ",".join(HEAVY), *arguments]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert shown.stderr.splitlines()[-1] == f"{code} []"


def test_help_names_every_verb(tmp_path: Path) -> None:
    shown = scalesweep("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for verb in VERBS:
        assert f"    {verb} " in shown.stdout


def test_a_verb_is_needed(tmp_path: Path) -> None:
    assert scalesweep(cwd=tmp_path).returncode == 2
    assert scalesweep("runn", "laptop", cwd=tmp_path).returncode == 2


def test_plan_uses_the_speed_that_was_measured_in_the_usual_folder(done: Path, plan: SweepPlan, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, CONTENT)
    assert "assumed rate" in scalesweep("plan", sweep, cwd=tmp_path).stdout
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / plan.name).symlink_to(done / "run")
    assert "at the measured rate" in scalesweep("plan", sweep, cwd=tmp_path).stdout
    other = scalesweep("plan", sweep, "--set", "trials=13", cwd=tmp_path)
    assert "assumed rate" in other.stdout
