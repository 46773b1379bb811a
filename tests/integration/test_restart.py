"""Drivers and workers that are killed, interrupted or asked to leave: the same command goes on as if nothing was."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import tiny
import yaml
from driven import COMMAND, Case, driving, make_case, run_to_the_end
from servers import mlflow_server
from what_holds import (
    checkpointed,
    curves,
    drivers,
    ended,
    faults_of_mlflow,
    faults_of_record,
    history_of,
    running,
)

from orchestrator.ledger import Closed
from orchestrator.trial import TrialState
from trainers.api import Cause

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc"),
]


@pytest.fixture
def sleeping_case(tmp_path: Path) -> Case:
    """Six trials that sleep, in the driver's own threads: no Ray, no torch."""
    content = tiny.content(scales=2, replicates=1, trainer={"name": "synthetic", "seconds_per_trial": 1.5})
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(content))
    return Case(root=tmp_path, file=file)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    """A sweep of language models that nobody disturbed, one trial after another in the driver itself."""
    root = tmp_path_factory.mktemp("faults") / "sweep"
    case = make_case(root, sampler="random", trials=2)
    folder = root / "undisturbed"
    with driving(case, folder, "--set", "cluster.address=in-process", "--set", "cluster.workers=1") as driver:
        assert driver.exit_code() == 0, driver.log.read_text()
    return case, folder


def said(case: Case, folder: Path) -> str:
    return (case.root / f"{folder.name}.log").read_text()


def ask(what: str, folder: Path) -> None:
    subprocess.run([str(COMMAND), what, str(folder)], check=True, capture_output=True)


def test_a_killed_worker_and_a_killed_driver_leave_no_trace_in_the_results(undisturbed):
    case, whole = undisturbed
    folder = case.root / "killed"
    with driving(case, folder) as driver:
        driver.until(lambda: checkpointed(folder), "checkpoint")
        os.kill(driver.workers()[0], signal.SIGKILL)
        driver.until(
            lambda: any(trial.cause is Cause.WORKER_LOST for trial in history_of(folder).trials.values()), "end"
        )
        driver.until(lambda: checkpointed(folder), "checkpoint")
        driver.kill()
    assert running(folder)
    run_to_the_end(case, folder)

    assert curves(folder) == curves(whole)
    assert faults_of_record(case, folder) == []
    assert faults_of_mlflow(folder) == []


def test_ctrl_c_in_a_terminal_writes_checkpoints_and_the_same_command_goes_on(undisturbed):
    case, whole = undisturbed
    folder = case.root / "interrupted"
    with driving(case, folder) as driver:
        driver.until(lambda: bool(running(folder)), "trial")
        driver.send(signal.SIGINT, group=True)
        assert driver.exit_code() == 130, said(case, folder)
        driver.gone()
    trials = history_of(folder).trials.values()
    assert {trial.state for trial in trials} <= {TrialState.WAITING, TrialState.COMPLETED}
    assert not any(trial.failures for trial in trials), said(case, folder)
    assert faults_of_mlflow(folder) == []  # nothing there is RUNNING either
    run_to_the_end(case, folder)

    assert curves(folder) == curves(whole)
    assert faults_of_record(case, folder) == []
    assert not any(trial.result.repeated_tokens for trial in history_of(folder).trials.values())


def test_sigterm_and_pause_leave_with_130_and_stop_ends_for_good(sleeping_case, tmp_path):
    folder = tmp_path / "run"
    with driving(sleeping_case, folder) as driver:
        driver.until(lambda: bool(running(folder)), "trial")
        driver.send(signal.SIGTERM)
        assert driver.exit_code() == 130
    assert "the same command goes on" in said(sleeping_case, folder)
    assert not history_of(folder).of(Closed)
    with driving(sleeping_case, folder) as driver:
        driver.until(lambda: drivers(folder) == 2 and bool(running(folder)), "trial")
        ask("pause", folder)
        assert driver.exit_code() == 130
    assert not running(folder)
    with driving(sleeping_case, folder) as driver:
        driver.until(lambda: drivers(folder) == 3 and bool(running(folder)), "trial")
        ask("stop", folder)
        assert driver.exit_code() == 0
    assert [event.how for event in history_of(folder).of(Closed)] == ["stopped"]
    assert len(history_of(folder).trials) < sleeping_case.plan.trials


def test_a_tracking_server_that_was_away_gets_everything_in_the_end(sleeping_case, tmp_path):
    folder = tmp_path / "run"
    with mlflow_server(tmp_path, f"sqlite:///{tmp_path}/server.db") as server:
        with driving(sleeping_case, folder, "--set", f"tracking.uri={server.uri}") as driver:
            driver.until(lambda: bool(running(folder)), "trial")
            server.stop()
            driver.until(lambda: ended(folder) > 2, "third end")
            server.start()
            assert driver.exit_code() == 0, driver.said()
        assert faults_of_mlflow(folder, server.uri) == []


def test_of_two_drivers_started_together_one_runs(sleeping_case, tmp_path):
    folder = tmp_path / "run"
    with driving(sleeping_case, folder) as one, driving(sleeping_case, folder) as other:
        codes = sorted([one.exit_code(), other.exit_code()])
    assert codes == [0, 2], said(sleeping_case, folder)
    assert "in use by another driver" in said(sleeping_case, folder)
    assert drivers(folder) == 1
    assert faults_of_mlflow(folder) == []
    assert len(history_of(folder).trials) == sleeping_case.plan.trials
