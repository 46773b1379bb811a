"""A real MLflow server behind a proxy that asks for a bearer token."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from bearer_proxy import bearer_proxy
from servers import Mlflow, mlflow_server

from orchestrator.checks import tracking
from orchestrator.courier import StoreUnreachable
from orchestrator.tracking.access import check
from orchestrator.tracking.store import connect
from orchestrator.tracking.uploader import MlflowTracker
from search_spaces.errors import InputError
from search_spaces.plan import Schedule, SweepPlan

TOKEN = "planted-bearer-token"  # noqa: S105 - planted
VARIABLE = "MLFLOW_TRACKING_TOKEN"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder, f"sqlite:///{folder / 'runs.db'}") as running:
        yield running


@pytest.fixture(scope="module")
def guarded(server: Mlflow) -> Iterator[str]:
    """The address of the proxy."""
    with bearer_proxy(server.uri, TOKEN) as uri:
        yield uri


@pytest.fixture(autouse=True)
def _no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("token", [None, "another-token"])
def test_a_token_that_is_refused_is_an_input_error(
    guarded: str, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token:
        monkeypatch.setenv(VARIABLE, token)
    with pytest.raises(InputError, match=rf"HTTP status 401.* or {VARIABLE}, in the environment") as caught:
        check(guarded)
    assert "another-token" not in str(caught.value)


@pytest.fixture
def _token(monkeypatch: pytest.MonkeyPatch, _no_password: None) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)


@pytest.mark.usefixtures("_token")
def test_a_token_that_is_right_passes_and_may_write(guarded: str) -> None:
    check(guarded)
    assert tracking(guarded).seen.endswith("lets us in and write")


@pytest.mark.usefixtures("_token")
def test_a_proxy_without_a_server_may_get_one() -> None:
    with bearer_proxy("http://127.0.0.1:9", TOKEN) as uri, pytest.raises(StoreUnreachable, match="HTTP status 502"):
        check(uri)


@pytest.mark.usefixtures("_token")
def test_runs_are_uploaded_and_the_token_is_nowhere(
    guarded: str, small_search, make_trial, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = SweepPlan(name="behind-a-proxy", searches=(small_search,), schedule=Schedule.CONSTANT)
    with caplog.at_level(logging.DEBUG):
        tracker = MlflowTracker(uri=guarded, folder=tmp_path, plan=plan, sweep_id="abc")
        tracker.trial_changed(make_trial(0, loss=4.0), small_search)
        assert tracker.close(60.0)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert TOKEN not in caplog.text
    client = connect(guarded)
    (experiment,) = (each for each in client.search_experiments() if each.name.startswith("behind-a-proxy"))
    runs = client.search_runs([experiment.experiment_id])
    assert [run.data.metrics["final_loss"] for run in runs if "trial_key" in run.data.tags] == [4.0]
    assert TOKEN not in str([run.to_dictionary() for run in runs])
