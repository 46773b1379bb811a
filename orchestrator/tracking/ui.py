"""The MLflow UI on a sweep's store, on this machine alone."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.tracking.store import connect, database, is_server, store_uri
from search_spaces.errors import InputError
from trainers.masking import masked

HOST = "127.0.0.1"
FIRST_PORT = 5000  # MLflow's own default
# How long a server may take to answer, seconds; it takes about 6 here. A guess.
_PATIENCE_S = 60.0

_BEST_FIRST = "orderByKey=metrics.%60final_loss%60&orderByAsc=true"


def serve(uri: str | None, folder: Path, port: int | None, say: Callable[[str], object]) -> int:
    """Serve the UI until interrupted; returns the exit code. `port` None is the first free one from 5000.

    Raises InputError where the store is not there yet or the port is taken.
    """
    address = store_uri(uri, folder)
    if is_server(address):
        say(f"this sweep's runs are on {masked(address)}\n")
        return 0
    if uri is None and not database(folder).exists():
        raise InputError(f"{database(folder)} is not there yet; start the sweep first, with `scalesweep run`")
    chosen = free_port(port)
    server = start(address, folder, chosen)
    try:
        wait_until_up(server, chosen)
        say(f"http://{HOST}:{chosen}/{_page(address)}   (Ctrl-C ends it)\n")
        if line := ssh_line(chosen, os.environ):
            say(f"from your own machine: {line}\n")
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        stop(server)


def _page(address: str) -> str:
    """The page of the newest experiment's runs, best first: the run folder's store has but one of ours."""
    newest = connect(address).search_experiments(order_by=["creation_time DESC"], max_results=1)
    return f"#/experiments/{newest[0].experiment_id}/runs?{_BEST_FIRST}" if newest else ""


def start(address: str, folder: Path, port: int) -> subprocess.Popen[bytes]:
    """An MLflow server as a process group of its own; it takes seconds until it answers."""
    settings = {
        "MLFLOW_BACKEND_STORE_URI": address,  # not an argument: it may hold a password
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONSAFEPATH": "1",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", str(folder.resolve() / "mlartifacts")]
    # uvicorn puts its current folder on the import path, so that gets one that is there already.
    where = sysconfig.get_paths()["purelib"]
    return subprocess.Popen(  # noqa: S603  our own interpreter, arguments made here
        command, env={**os.environ, **settings}, cwd=where, stdout=subprocess.DEVNULL, start_new_session=True
    )


def wait_until_up(server: subprocess.Popen[bytes], port: int) -> None:
    """Until the server answers. Raises InputError where it ended, or takes too long."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise InputError(f"the MLflow server ended at once (exit code {server.returncode}); it said why above")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.1)
    raise InputError(f"the MLflow server did not answer on port {port} within {_PATIENCE_S:.0f} s")


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and its workers."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def free_port(wanted: int | None) -> int:
    """The port wanted, or the first free one from 5000. Raises InputError where it is taken."""
    if wanted is not None:
        if not _is_free(wanted):
            raise InputError(f"port {wanted} is taken; give another --port, or none for a free one")
        return wanted
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        if _is_free(port):
            return port
    raise InputError(f"ports {FIRST_PORT} to {FIRST_PORT + 99} are taken; give a free --port")


def ssh_line(port: int, environment: Mapping[str, str]) -> str | None:
    """What to type at home to reach the port; None where this is no remote session."""
    connection = environment.get("SSH_CONNECTION", "").split()
    if len(connection) != 4:
        return None
    _, _, here, ssh_port = connection
    option = "" if ssh_port == "22" else f" -p {ssh_port}"
    return f"ssh -N -L {port}:{HOST}:{port}{option} {getpass.getuser()}@{here}"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
