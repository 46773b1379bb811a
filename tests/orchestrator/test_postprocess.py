"""From a run folder's ledger and curves to laws, table, page and words."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiny
from fakes import LAW, FakePool, FakeProposer, FakeTracker, completed, diverged

from orchestrator.cli import main
from orchestrator.forecasts import Forecast
from orchestrator.goal import Goal
from orchestrator.ledger import History, Ledger, Predicted, read
from orchestrator.ports import Assignment, PoolEvent, Resources
from orchestrator.postprocess import Outcome, as_json, forecast_of, from_json, postprocess
from orchestrator.runfolder import RunFolder
from orchestrator.steering import Steering
from orchestrator.sweep import Ending, Ports, Sweep
from orchestrator.trial import Reason, TrialState
from search_spaces.plan import Search

SWEEP = tiny.sweep(trials=16, replicates=3)
PLAN = SWEEP.plan()


def ending(assignment: Assignment) -> Sequence[PoolEvent]:
    return (diverged if assignment.spec.settings.learning_rate > 1.5 else completed)(assignment)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished sweep over the planted law, whose forecasts are the real ones."""
    found = RunFolder(tmp_path_factory.mktemp("run"))
    found.keep(SWEEP)

    def forecast(search: Search, trials) -> Forecast:
        return forecast_of(search, trials, found)

    ports = Ports(proposer=FakeProposer(), pool=FakePool(ending=ending), tracker=FakeTracker(), forecast=forecast)
    with Ledger.open(found.path) as ledger:
        sweep = Sweep(
            plan=PLAN,
            folder=found.path,
            ledger=ledger,
            ports=ports,
            trainer_version="fake",
            resources=lambda _: Resources(),
            steering=Steering(plan=PLAN, goal=Goal()),
        )
        assert sweep.run() is Ending.DONE
    return found


@pytest.fixture(scope="module")
def history(folder: RunFolder) -> History:
    return read(folder.path)


@pytest.fixture(scope="module")
def outcome(folder: RunFolder, history: History) -> Outcome:
    return postprocess(folder, history)


def test_the_forecast_comes_near_what_was_planted(history: History) -> None:
    """From 48 random trials of three scales of up to a quarter of the size."""
    (predicted,) = history.of(Predicted)
    cell = PLAN.searches[-1].cell
    planted = LAW.optimum(cell.scale.params, cell.tokens)
    said = predicted.prediction
    assert said["settings"]["learning_rate"] == pytest.approx(planted.learning_rate, rel=0.4)
    assert said["loss"]["value"] == pytest.approx(planted.loss, rel=0.1)
    first = next(trial for trial in history.trials.values() if trial.scale == "s4")
    assert first.reason is Reason.PREDICTED


def test_the_files_are_there(folder: RunFolder, history: History, outcome: Outcome) -> None:
    laws = json.loads(folder.laws_file.read_text())
    assert {"hyperparameters", "chinchilla"} <= set(laws["laws"])
    table = pq.read_table(folder.runs_file).to_pylist()
    assert len(table) == sum(len(search.serves) * search.planned_trials for search in PLAN.searches)
    bad = [row for row in table if row["status"] == "diverged"]
    assert {row["run_id"] for row in bad} == {
        trial.key for trial in history.trials.values() if trial.state is TrialState.DIVERGED
    }
    assert all(row["loss"] is None for row in bad)
    whole = pq.read_table(folder.curves_file).to_pylist()
    assert len(whole) > 2 * len(table)
    assert {row["run_id"] for row in whole} == {row["run_id"] for row in table}
    page = folder.report_file.read_text()
    assert "<title>" in page
    assert PLAN.name in page


def test_laws_of_whole_curves_are_fitted_to_them(folder: RunFolder, outcome: Outcome, tmp_path: Path) -> None:
    laws = json.loads(folder.laws_file.read_text())["laws"]
    assert "adaptive" in laws
    page = folder.report_file.read_text()
    assert "measured on a part of the held-out set" in page
    with redirect_stdout(io.StringIO()) as said:
        assert main(["fit", str(folder.path), "--law", "adaptive", "--law", "chinchilla", "--out", str(tmp_path)]) == 0
    assert "adaptive" in said.getvalue()
    again = json.loads((tmp_path / "laws.json").read_text())["laws"]
    assert again["adaptive"]["parameters"] == laws["adaptive"]["parameters"]
    assert pq.read_table(tmp_path / "curves.parquet").equals(pq.read_table(folder.curves_file))
    with redirect_stdout(io.StringIO()):
        assert main(["report", str(tmp_path / "laws.json")]) == 0
    assert "measured on a part of the held-out set" in (tmp_path / "report.html").read_text()


def test_the_words_and_the_note(outcome: Outcome) -> None:
    assert "hyperparameters" in outcome.text
    assert "Backtest of s4" in outcome.text
    assert "What to use next" in outcome.text
    assert outcome.note.startswith("# tiny")
    for search in PLAN.searches:
        assert f"| {search.name} | {search.planned_trials} |" in outcome.note


def test_the_numbers(history: History, outcome: Outcome) -> None:
    assert set(outcome.metrics) == {f"backtest.{PLAN.searches[-1].name}.regret"}
    assert outcome.metrics[f"backtest.{PLAN.searches[-1].name}.regret"] == pytest.approx(0, abs=0.05)
    measured = {key for key, trial in history.trials.items() if trial.loss is not None}
    assert set(outcome.regrets) <= measured
    assert min(outcome.regrets.values()) > -0.05


def test_nothing_measured_is_said_and_no_error(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.keep(SWEEP)
    outcome = postprocess(folder, History())
    assert "not fitted" in outcome.text
    assert "What to use next" not in outcome.text
    assert json.loads(folder.laws_file.read_text())["laws"] == {}
    assert pq.read_table(folder.runs_file).num_rows == 0
    assert folder.report_file.exists()


def test_a_prediction_comes_back_from_the_ledger(history: History) -> None:
    (predicted,) = history.of(Predicted)
    said = from_json(predicted.prediction)
    assert "settings" not in said.quantities
    assert {"learning_rate", "batch_tokens", "beta2", "loss"} <= set(said.quantities)
    again = as_json(said)
    assert again["regret"] == predicted.prediction["regret"]
    assert {name: again[name] for name in said.quantities} == {
        name: predicted.prediction[name] for name in said.quantities
    }
