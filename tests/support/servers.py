"""Real servers for tests: Postgres and MLflow, on this machine or on a pretended host.

`prefix` is a command that the server is started under, such as `("nsenter", "--net=/run/netns/a", "--")`;
it must end as the server. Each server is a process group of its own and is ended with its context.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = "127.0.0.1"
# How long a server may take to answer, seconds. MLflow takes 5 to 20 on a busy machine.
_UP_S = 90.0
_DOWN_S = 20.0
_POSTGRES_USER = "postgres"  # who the server runs as where this process is root, which Postgres refuses

# Run under the prefix, so that they see the server's network. They print nothing.
_ANSWERS_HTTP = "import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=2)"
_SQL = "import sys, psycopg; psycopg.connect(sys.argv[1], autocommit=True, connect_timeout=3).execute(sys.argv[2])"


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def has_postgres() -> bool:
    """Whether Postgres' programs are installed."""
    return shutil.which("initdb") is not None and shutil.which("postgres") is not None


@dataclass(kw_only=True)
class Server:
    """A server that can be stopped, killed and started again, on the same data."""

    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    answers: Callable[[], bool] = lambda: True
    stop_signal: signal.Signals = signal.SIGTERM
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """The first process of the server's group."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers. A server that ends at once is started again for a while."""
        deadline = time.monotonic() + _UP_S
        while True:
            if self._process is None or self._process.poll() is not None:
                self._process = self._started()
            if self.answers():
                return
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"{self.command} did not answer within {_UP_S:.0f} s:\n{self.log.read_text()}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End it as its administrator would."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """SIGKILL, to all of its processes at once."""
        self._end(signal.SIGKILL)

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                list(self.command),
                env={**os.environ, **self.environment},
                # uvicorn puts its current folder on the import path, so that gets one that is there already.
                cwd=sysconfig.get_paths()["purelib"],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, how)
        try:
            self._process.wait(_DOWN_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(_DOWN_S)
        with suppress(ProcessLookupError):  # what a killed first process left behind
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process = None


@dataclass(kw_only=True)
class Postgres(Server):
    """A Postgres cluster with one superuser, `scalesweep`, who needs no password unless there is one."""

    address: str
    port: int
    password: str | None
    prefix: Sequence[str]

    def uri(self, database: str) -> str:
        """For SQLAlchemy, without the password: PGPASSWORD carries it."""
        return f"postgresql+psycopg://scalesweep@{self.address}:{self.port}/{database}"

    def execute(self, sql: str, database: str = "postgres") -> None:
        """One statement. Raises CalledProcessError where the server refuses it or does not answer."""
        where = f"host={self.address} port={self.port} user=scalesweep dbname={database}"
        command = [*self.prefix, sys.executable, "-c", _SQL, where, sql]
        environment = {**os.environ, **({"PGPASSWORD": self.password} if self.password else {})}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=15)

    def create_database(self, name: str) -> str:
        """A new, empty database; returns its URI."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self.uri(name)


@dataclass(kw_only=True)
class Mlflow(Server):
    """An `mlflow server`."""

    uri: str


@contextmanager
def postgres(
    folder: Path,
    address: str = LOOPBACK,
    port: int | None = None,
    *,
    prefix: Sequence[str] = (),
    password: str | None = None,
) -> Iterator[Postgres]:
    """A running Postgres; its log goes to the folder, its data to a folder that its own user may enter."""
    chosen = port or free_port()
    data = _initialised(password)
    server = Postgres(
        command=[*prefix, *_as_postgres(), "postgres", "-D", str(data), "-h", address, "-p", str(chosen), "-k", ""],
        log=folder / f"postgres-{chosen}.log",
        stop_signal=signal.SIGINT,  # "fast": sessions are ended, nothing is lost
        address=address,
        port=chosen,
        password=password,
        prefix=prefix,
    )
    server.answers = lambda: _runs(lambda: server.execute("SELECT 1"))
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def mlflow_server(
    folder: Path,
    backend_uri: str,
    address: str = LOOPBACK,
    port: int | None = None,
    *,
    prefix: Sequence[str] = (),
    login: tuple[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Mlflow]:
    """A running MLflow server with its artifacts in the folder; `login` (user, password) asks for just that."""
    chosen = port or free_port()
    uri = f"http://{address}:{chosen}"
    command = [*prefix, sys.executable, "-m", "mlflow", "server", "--host", address, "--port", str(chosen)]
    command += ["--workers", "1", "--artifacts-destination", str(folder / "artifacts")]
    settings = {
        "MLFLOW_BACKEND_STORE_URI": backend_uri,  # not an argument: it may hold a password
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 0.4 GB of memory instead of 1.9
        "PYTHONSAFEPATH": "1",
        **(environment or {}),
    }
    if login is not None:
        command += ["--app-name", "basic-auth"]
        settings |= _basic_auth(folder, login)
    health = [*prefix, sys.executable, "-I", "-S", "-c", _ANSWERS_HTTP, f"{uri}/health"]
    server = Mlflow(
        command=command,
        log=folder / f"mlflow-{chosen}.log",
        environment=settings,
        answers=lambda: _runs(lambda: subprocess.run(health, check=True, capture_output=True, timeout=10)),
        uri=uri,
    )
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _runs(action: Callable[[], object]) -> bool:
    try:
        action()
    except subprocess.SubprocessError:
        return False
    return True


def _initialised(password: str | None) -> Path:
    data = Path(tempfile.mkdtemp(prefix="scalesweep-postgres-"))
    secret = data.with_name(f"{data.name}.secret")
    command = [*_as_postgres(), "initdb", "-D", str(data), "-U", "scalesweep", "--encoding=UTF8", "--no-locale"]
    if password is None:
        command += ["--auth=trust"]
    else:
        secret.write_text(password)
        command += ["--auth=scram-sha-256", f"--pwfile={secret}"]
    try:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(_POSTGRES_USER)
            for path in (data, *([secret] if password else [])):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        subprocess.run(command, check=True, capture_output=True, timeout=60, cwd="/")
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all samenet {'trust' if password is None else 'scram-sha-256'}\n")
    finally:
        secret.unlink(missing_ok=True)
    return data


def _as_postgres() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_POSTGRES_USER}", f"--regid={_POSTGRES_USER}", "--clear-groups", "--"]


def _basic_auth(folder: Path, login: tuple[str, str]) -> dict[str, str]:
    user, password = login
    settings = folder / "basic_auth.ini"
    settings.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder / 'basic_auth.db'}\n"
        f"admin_username = {user}\nauth_cache_ttl_seconds = 60\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "only for tests",
    }
