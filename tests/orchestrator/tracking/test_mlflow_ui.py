"""The MLflow UI as `scalesweep ui` starts it."""

from __future__ import annotations

import json
import socket
import urllib.request
from pathlib import Path

import pytest

from orchestrator.tracking import ui
from orchestrator.tracking.store import connect, store_uri
from search_spaces.errors import InputError


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind((ui.HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_server_shows_the_run_folders_store(run_folder_with_store, monkeypatch):
    connect(store_uri(None, run_folder_with_store)).create_experiment("mine")
    bogus = run_folder_with_store / "mlflow"
    bogus.mkdir()
    (bogus / "__init__.py").write_text("raise RuntimeError('the current folder was imported')")
    monkeypatch.chdir(run_folder_with_store)
    port = ui.free_port(None)
    server = ui.start(store_uri(None, run_folder_with_store), run_folder_with_store, port)
    try:
        ui.wait_until_up(server, port)
        request = urllib.request.Request(
            f"http://{ui.HOST}:{port}/api/2.0/mlflow/experiments/search",
            data=json.dumps({"max_results": 10}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  our own server
            names = {each["name"] for each in json.load(answer)["experiments"]}
    finally:
        ui.stop(server)
    assert "mine" in names
    assert server.poll() is not None


def test_a_run_folder_without_a_store_is_refused(tmp_path):
    with pytest.raises(InputError, match="start the sweep first"):
        ui.serve(None, tmp_path, None, str)


def test_a_sweep_on_a_server_is_only_pointed_at():
    said: list[str] = []
    assert ui.serve("http://me:secret@host:5000", Path(), None, said.append) == 0
    assert said == ["this sweep's runs are on http://me:***@host:5000\n"]


def test_a_taken_port_is_refused_and_passed_over(taken_port):
    with pytest.raises(InputError, match=f"port {taken_port} is taken"):
        ui.free_port(taken_port)


def test_a_remote_session_gets_its_ssh_line():
    line = ui.ssh_line(5001, {"SSH_CONNECTION": "10.0.0.9 51111 10.0.0.1 2222"})
    assert line is not None
    assert line.startswith("ssh -N -L 5001:127.0.0.1:5001 -p 2222 ")
    assert line.endswith("@10.0.0.1")
    assert ui.ssh_line(5001, {}) is None
