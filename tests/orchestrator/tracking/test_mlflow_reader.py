"""Reading experiments, ours and other people's."""

from __future__ import annotations

import math

import pytest

from orchestrator.tracking.reader import read_experiment
from orchestrator.tracking.store import connect, store_uri
from orchestrator.tracking.uploader import MlflowTracker
from orchestrator.trial import TrialState
from search_spaces.errors import InputError, MissingColumnError
from search_spaces.plan import Schedule, SweepPlan
from trainers.api import CurvePoint


@pytest.fixture
def uri(run_folder_with_store):
    return store_uri(None, run_folder_with_store)


@pytest.fixture
def client(uri):
    return connect(uri)


def log_foreign(client, experiment: str, steps: int = 3, **params: object) -> str:
    """A run as people log them: by optimizer step, with settings as params and tokens as a metric."""
    found = client.get_experiment_by_name(experiment)
    run = client.create_run(found.experiment_id if found else client.create_experiment(experiment)).info.run_id
    for key, value in params.items():
        client.log_param(run, key, value)
    for step in range(1, steps + 1):
        client.log_metric(run, "val_loss", 5 - 0.1 * step, step=step, timestamp=step)
        client.log_metric(run, "seen", 1000.0 * step, step=step, timestamp=step)
    client.set_terminated(run)
    return run


def test_our_own_experiment_needs_no_columns(run_folder_with_store, uri, small_search, make_trial):
    plan = SweepPlan(name="tiny", searches=(small_search,), schedule=Schedule.CONSTANT)
    tracker = MlflowTracker(uri=None, folder=run_folder_with_store, plan=plan, sweep_id="abc")
    ended = [make_trial(0, loss=4.0), make_trial(1, loss=math.nan), make_trial(2, state=TrialState.FAILED)]
    for trial in ended:
        tracker.trial_changed(trial, small_search)
        points = [CurvePoint(tokens=1000 * k, loss=5 - 0.1 * k, time=1e6 + k) for k in range(1, 401)]
        tracker.points(trial.key, points)
    assert tracker.close(60)
    records = read_experiment(uri, "tiny abc", {})
    first = [record for record in records if record.run_id == ended[0].key]
    assert [record.tokens for record in first] == [1000 * k for k in range(1, 401)]
    assert first[9].loss == pytest.approx(4.0)
    assert (first[0].learning_rate, first[0].beta2) == (0.001732, 0.99)
    assert first[0].batch_tokens == 1024
    assert first[0].params == small_search.cell.scale.params
    assert first[0].seed == 0
    assert {record.status for record in records} == {"completed", "diverged", "failed"}


def test_another_persons_experiment_by_its_columns(client, uri):
    run = log_foreign(client, "theirs", lr="3e-4", n_params=1_000_000, model="gpt", total_flops=1.8e10)
    columns = {
        "tokens": "metrics.seen",
        "loss": "metrics.val_loss",
        "learning_rate": "params.lr",
        "params": "n_params",
        "group": "model",
        "flops": "params.total_flops",
        "steps": "step",
    }
    records = read_experiment(uri, "theirs", columns)
    assert [(record.tokens, record.loss, record.steps) for record in records] == [
        (1000, pytest.approx(4.9), 1),
        (2000, pytest.approx(4.8), 2),
        (3000, pytest.approx(4.7), 3),
    ]
    assert [record.flops for record in records] == pytest.approx([0.6e10, 1.2e10, 1.8e10])
    assert {(record.run_id, record.learning_rate, record.params, record.group) for record in records} == {
        (run, 3e-4, 1e6, "gpt")
    }


def test_tokens_of_the_whole_run_give_one_record(client, uri):
    log_foreign(client, "theirs", tokens=3000)
    (record,) = read_experiment(uri, "theirs", {"loss": "metrics.val_loss"})
    assert (record.tokens, record.loss) == (3000, pytest.approx(4.7))


def test_runs_without_the_loss_are_left_out(client, uri):
    log_foreign(client, "theirs", steps=0)
    run = log_foreign(client, "theirs")
    records = read_experiment(uri, "theirs", {"loss": "metrics.val_loss", "tokens": "step"})
    assert {record.run_id for record in records} == {run}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"tokens": "step"}, r"no run has loss.*--column loss=metrics\.NAME.*val_loss"),
        ({"loss": "metrics.val_loss"}, r"no run has tokens.*--column tokens=step"),
        ({"loss": "metrics.test_loss", "tokens": "step"}, r"no run has metrics\.test_loss.*seen, val_loss"),
        ({"loss": "val_loss", "tokens": "step", "beta2": "params.b2"}, r"no run has params\.b2 \(for beta2\).*lr"),
    ],
)
def test_what_is_missing_is_named(client, uri, columns, message):
    log_foreign(client, "theirs", lr=1)
    with pytest.raises(MissingColumnError, match=message):
        read_experiment(uri, "theirs", columns)


def test_an_unknown_experiment_is_named_with_those_there_are(client, uri):
    log_foreign(client, "theirs")
    with pytest.raises(InputError, match=r"no experiment 'their'.*'theirs'"):
        read_experiment(uri, "their", {})
    client.delete_experiment(client.get_experiment_by_name("theirs").experiment_id)
    with pytest.raises(InputError, match="deleted"):
        read_experiment(uri, "theirs", {})


def test_nonsense_in_a_column_is_named(client, uri):
    log_foreign(client, "theirs", lr="fast")
    with pytest.raises(InputError, match=r"params\.lr is 'fast'; learning_rate must be a number"):
        read_experiment(uri, "theirs", {"loss": "val_loss", "tokens": "step", "learning_rate": "params.lr"})


@pytest.mark.parametrize("columns", [{"los": "metrics.loss"}, {"loss": "params.loss"}, {"loss": "step"}])
def test_a_column_that_cannot_be_is_refused(uri, columns):
    with pytest.raises(InputError, match="--column los"):
        read_experiment(uri, "theirs", columns)


def test_a_store_that_is_not_there_is_refused_and_not_made(tmp_path):
    with pytest.raises(InputError, match="there is no MLflow database"):
        read_experiment(f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}", "theirs", {})
    assert not (tmp_path / "other").exists()


def test_a_server_that_does_not_answer_is_named():
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9 cannot be read"):
        read_experiment("http://127.0.0.1:9", "theirs", {})
