"""A real MLflow server that asks for a password: what is said, how often, and what arrives."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Mlflow, mlflow_server

from orchestrator.courier import StoreUnreachable
from orchestrator.tracking.access import check
from orchestrator.tracking.uploader import MlflowTracker
from search_spaces.errors import InputError
from search_spaces.plan import Schedule, SweepPlan

USER, PASSWORD = "keeper", "a-long-password"
VARIABLES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
Login = Callable[..., None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    pytest.importorskip("flask_wtf", reason="mlflow[auth] is not installed")
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder, f"sqlite:///{folder / 'runs.db'}", login=(USER, PASSWORD)) as running:
        yield running


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> Login:
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN", raising=False)

    def give(user: str = "", password: str = "") -> None:
        for name, value in zip(VARIABLES, (user, password), strict=True):
            if value:
                monkeypatch.setenv(name, value)
            else:
                monkeypatch.delenv(name, raising=False)

    give()
    return give


@pytest.mark.parametrize("given", [{}, {"user": USER, "password": "wrong-password"}])
def test_credentials_that_are_refused_are_an_input_error(server: Mlflow, login: Login, given: dict[str, str]) -> None:
    login(**given)
    with pytest.raises(InputError, match=r"refuses our credentials .* set MLFLOW_TRACKING_USERNAME and") as caught:
        check(server.uri)
    assert "wrong" not in str(caught.value)


def test_credentials_that_are_right_pass(server: Mlflow, login: Login) -> None:
    login(USER, PASSWORD)
    check(server.uri)


def test_a_server_that_is_not_there_may_come_back() -> None:
    with pytest.raises(StoreUnreachable, match=r"MLflow at http://127\.0\.0\.1:9 does not answer"):
        check("http://127.0.0.1:9")


@pytest.fixture
def run_folder_logs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> tuple[Path, pytest.LogCaptureFixture]:
    return tmp_path, caplog


def test_a_refusal_during_a_sweep_is_said_once_and_mended_by_a_later_start(
    server: Mlflow, login: Login, small_search, make_trial, run_folder_logs
) -> None:
    tmp_path, caplog = run_folder_logs
    plan = SweepPlan(name="guarded", searches=(small_search,), schedule=Schedule.CONSTANT)

    def upload(patience_s: float) -> bool:
        tracker = MlflowTracker(uri=server.uri, folder=tmp_path, plan=plan, sweep_id="abc")
        tracker.trial_changed(make_trial(0, loss=4.0), small_search)
        return tracker.close(patience_s)

    login(USER, "wrong-password")
    with caplog.at_level(logging.WARNING):
        assert not upload(2.0)
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("orchestrator")]
    assert "refuses our credentials (HTTP status 401): set MLFLOW_TRACKING_USERNAME" in said
    assert "scalesweep sync" in said
    assert "wrong-password" not in caplog.text
    login(USER, PASSWORD)
    assert upload(60.0)
