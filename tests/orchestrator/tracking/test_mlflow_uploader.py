"""What the uploader does to an MLflow store, and what it survives."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.tracking.runs import PARENT_TAG, SWEEP_TAG
from orchestrator.tracking.store import connect, store_uri
from orchestrator.tracking.uploader import MlflowTracker
from orchestrator.trial import Trial, TrialState
from search_spaces.errors import InputError
from search_spaces.plan import Schedule, Search, SweepPlan
from trainers.api import CurvePoint

MakeTrial = Callable[..., Trial]
PATIENCE_S = 60.0
KEY = f"{0:016x}"


@pytest.fixture
def start(run_folder_with_store, small_search) -> Callable[..., MlflowTracker]:
    plan = SweepPlan(name="tiny", searches=(small_search,), schedule=Schedule.CONSTANT)
    return lambda uri=None: MlflowTracker(uri=uri, folder=run_folder_with_store, plan=plan, sweep_id="abc")


@pytest.fixture
def client(run_folder_with_store):
    return connect(store_uri(None, run_folder_with_store))


def upload(tracker: MlflowTracker, search: Search, *trials: Trial) -> None:
    for trial in trials:
        tracker.trial_changed(trial, search)
        tracker.points(trial.key, curve(3))
    assert tracker.close(PATIENCE_S)


def curve(count: int, *, begun: float = 1_000_000.0) -> list[CurvePoint]:
    return [CurvePoint(tokens=1000 * k, loss=5 - 0.1 * k, time=begun + k) for k in range(1, count + 1)]


def delivered(tracker: MlflowTracker) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while tracker.pending:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs_of(client, name: str = "tiny abc") -> dict:
    experiment = client.get_experiment_by_name(name)
    return {run.data.tags.get("trial_key", ""): run for run in client.search_runs([experiment.experiment_id])}


def test_children_belong_to_their_parent(start, client, small_search, make_trial):
    upload(start(), small_search, make_trial(0, loss=4.0), make_trial(1, loss=math.nan))
    runs = runs_of(client)
    parent = runs.pop("")
    assert parent.data.tags[SWEEP_TAG] == "abc"
    assert {run.data.tags[PARENT_TAG] for run in runs.values()} == {parent.info.run_id}


def test_each_state_has_its_status_and_nothing_is_left_running(start, client, small_search, make_trial):
    trials = {
        "FINISHED": [make_trial(0, loss=4.0), make_trial(1, loss=math.nan)],
        "FAILED": [make_trial(2, state=TrialState.FAILED)],
        "KILLED": [make_trial(3, state=TrialState.RUNNING, attempt=1), make_trial(4)],
    }
    upload(start(), small_search, *(trial for group in trials.values() for trial in group))
    runs = runs_of(client)
    assert runs.pop("").info.status == "KILLED"
    expected = {trial.key: status for status, group in trials.items() for trial in group}
    assert {key: run.info.status for key, run in runs.items()} == expected
    assert runs[f"{1:016x}"].data.tags["state"] == "diverged"
    assert runs[f"{3:016x}"].data.tags["state"] == "waiting"
    assert runs[KEY].info.end_time == 1_000_100_000


def test_a_killed_run_goes_on(start, client, small_search, make_trial):
    upload(start(), small_search, make_trial(0, state=TrialState.RUNNING, attempt=1))
    tracker = start()
    tracker.trial_changed(make_trial(0, loss=4.0), small_search)
    tracker.summarise("done", {}, [])
    assert tracker.close(PATIENCE_S)
    runs = runs_of(client)
    assert {key: run.info.status for key, run in runs.items()} == {"": "FINISHED", KEY: "FINISHED"}
    assert len(client.get_metric_history(runs[KEY].info.run_id, "loss")) == 3


RUNNING, COMPLETED = {"state": TrialState.RUNNING, "attempt": 1}, {"loss": 4.0}


@pytest.mark.parametrize(
    "states",  # of the trial before the disk was lost, and at first after it
    [(RUNNING, RUNNING), (COMPLETED, RUNNING), (RUNNING, COMPLETED)],
    ids=["unfinished", "its end lost", "over before MLflow answers"],
)
def test_points_trained_again_after_a_lost_disk_are_stored_once(states, start, client, small_search, make_trial):
    before, after = states
    tracker = start()
    tracker.trial_changed(make_trial(0, **before), small_search)
    tracker.points(KEY, [replace(point, tokens_per_second=7.0) for point in curve(4)])
    assert tracker.close(PATIENCE_S)
    tracker = start()
    tracker.trial_changed(make_trial(0, **after), small_search)
    for points in (curve(2), curve(5, begun=2_000_000.0)[2:]):  # the record was restored up to the second point
        tracker.points(KEY, [replace(point, tokens_per_second=8.0) for point in points])
        delivered(tracker)
    tracker.trial_changed(make_trial(0, **COMPLETED), small_search)
    assert tracker.close(PATIENCE_S)
    run_id = runs_of(client)[KEY].info.run_id
    stored = {name: client.get_metric_history(run_id, name) for name in ("loss", "tokens_per_second")}
    assert [(each.step, each.value) for each in stored["loss"]] == [(each.tokens, each.loss) for each in curve(5)]
    assert [each.value for each in stored["tokens_per_second"]] == [7.0] * 4 + [8.0]


def test_a_point_of_another_value_is_stored_though_its_step_is_there(start, client, small_search, make_trial):
    for loss in (4.5, math.nan, math.nan, 4.4):
        tracker = start()
        tracker.trial_changed(make_trial(0, state=TrialState.RUNNING, attempt=1), small_search)
        tracker.points(KEY, [CurvePoint(tokens=1000, loss=loss, time=time.time())])
        assert tracker.close(PATIENCE_S)
    stored = client.get_metric_history(runs_of(client)[KEY].info.run_id, "loss")
    assert [str(each.value) for each in stored] == ["4.5", "nan", "4.4"]


def test_a_deleted_experiment_and_a_deleted_run_are_restored(start, client, small_search, make_trial):
    upload(start(), small_search, make_trial(0, loss=4.0), make_trial(1, loss=4.0))
    client.delete_run(runs_of(client)[KEY].info.run_id)
    upload(start(), small_search, make_trial(0, loss=4.0), make_trial(1, loss=4.0))
    assert len(runs_of(client)) == 3
    experiment = client.get_experiment_by_name("tiny abc")
    client.delete_experiment(experiment.experiment_id)
    upload(start(), small_search, make_trial(2, loss=4.0))
    assert client.get_experiment_by_name("tiny abc").experiment_id == experiment.experiment_id
    assert len(runs_of(client)) == 4


def test_a_renamed_experiment_is_found(start, client, small_search, make_trial):
    upload(start(), small_search, make_trial(0, loss=4.0))
    client.rename_experiment(client.get_experiment_by_name("tiny abc").experiment_id, "my best sweep")
    upload(start(), small_search, make_trial(1, loss=4.0))
    assert len(runs_of(client, "my best sweep")) == 3
    assert client.get_experiment_by_name("tiny abc") is None


def test_a_foreign_experiment_of_the_name_is_left_alone(start, client, small_search, make_trial):
    foreign = client.create_experiment("tiny abc")
    upload(start(), small_search, make_trial(0, loss=4.0))
    assert client.search_runs([foreign]) == []
    assert len(runs_of(client, "tiny abc (2)")) == 2


def test_deletion_while_the_sweep_runs_is_made_good(start, client, small_search, make_trial):
    tracker = start()
    tracker.trial_changed(make_trial(0, state=TrialState.RUNNING, attempt=1), small_search)
    delivered(tracker)
    client.delete_experiment(client.get_experiment_by_name("tiny abc").experiment_id)
    tracker.points(KEY, curve(3))
    tracker.trial_changed(make_trial(0, loss=4.0), small_search)
    assert tracker.close(PATIENCE_S)
    assert runs_of(client)[KEY].info.status == "FINISHED"


def test_artifacts_are_kept_and_missing_ones_are_no_obstacle(start, client, small_search, make_trial, tmp_path):
    (tmp_path / "laws.json").write_text("{}")
    tracker = start()
    tracker.trial_changed(make_trial(0, loss=4.0), small_search)
    tracker.summarise("n" * 9000, {"trials": 1.0}, [tmp_path / "laws.json", tmp_path / "report.html"])
    assert tracker.close(PATIENCE_S)
    parent = runs_of(client)[""]
    assert [each.path for each in client.list_artifacts(parent.info.run_id)] == ["laws.json"]
    assert (tmp_path / "mlartifacts").is_dir()
    assert len(parent.data.tags["mlflow.note.content"]) == 8000


def test_more_points_than_a_call_takes(start, client, small_search, make_trial):
    tracker = start()
    tracker.trial_changed(make_trial(0, loss=4.0), small_search)
    tracker.points(KEY, curve(2500))
    assert tracker.close(PATIENCE_S)
    assert len(client.get_metric_history(runs_of(client)[KEY].info.run_id, "loss")) == 2500


def test_a_new_database_is_made_with_a_write_ahead_log(small_search, make_trial, tmp_path):
    plan = SweepPlan(name="tiny", searches=(small_search,), schedule=Schedule.CONSTANT)
    upload(MlflowTracker(uri=None, folder=tmp_path, plan=plan, sweep_id="abc"), small_search, make_trial(0, loss=4.0))
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_server_that_does_not_answer_harms_nothing(start, small_search, make_trial):
    tracker = start("http://127.0.0.1:9")  # the discard port: nobody listens
    tracker.trial_changed(make_trial(0, loss=4.0), small_search)
    tracker.points(KEY, curve(3))
    began = time.monotonic()
    assert not tracker.close(1.0)
    assert time.monotonic() - began < 5
    assert tracker.pending == 2


def test_one_that_was_never_used_closes_at_once_and_opens_nothing(start):
    assert start("http://127.0.0.1:9").close(PATIENCE_S)


def test_points_of_an_unknown_trial_are_a_bug(start):
    with pytest.raises(KeyError):
        start().points(KEY, curve(1))


@pytest.mark.parametrize("uri", ["file:///tmp/x", "/tmp/mlruns", "", "ftp://host"])
def test_a_store_that_mlflow_cannot_have_is_refused(uri):
    with pytest.raises(InputError, match="tracking address"):
        store_uri(uri, Path())


def test_a_database_beside_the_current_folder_gets_its_full_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store_uri("sqlite:///mine.db", Path()) == f"sqlite:///{tmp_path / 'mine.db'}"


def test_mlflow_is_imported_only_when_used():
    script = "import sys, orchestrator.tracking.uploader, orchestrator.tracking.reader; print('mlflow' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "False"
