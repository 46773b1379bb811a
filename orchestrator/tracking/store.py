"""Which MLflow store a sweep has, and how it is opened."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.errors import InputError
from trainers.masking import masked

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SERVERS = ("http", "https", "databricks")
_ENVIRONMENT = {
    # A sweep has nothing to tell the makers of MLflow, and a cluster often no way out.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Ending a run on a server would print its address, after asking for it.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # The uploader tries again by itself; a request that waits for minutes could not be left in time.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def store_uri(uri: str | None, folder: Path) -> str:
    """The store's address: the one given, or a SQLite database in the run folder.

    Raises InputError where MLflow knows no such store.
    """
    if uri is None:
        return f"{_SQLITE}{database(folder)}"
    scheme = re.match(r"[a-z0-9]*", uri)
    if not scheme or scheme[0] not in {*_DATABASES, *_SERVERS}:
        raise InputError(
            f"the tracking address is {masked(uri)!r}; give an MLflow server (http://HOST:PORT) or a database "
            "(sqlite:///PATH, postgresql+psycopg://...), or leave it out for one in the run folder"
        )
    path = uri.removeprefix(_SQLITE)
    return f"{_SQLITE}{Path(path).resolve()}" if uri.startswith(_SQLITE) and path else uri


def existing_store(uri: str) -> str:
    """The address of a store to read. Raises InputError for a database file that is not there."""
    address = store_uri(uri, Path())
    if address.startswith(_SQLITE) and not Path(address.removeprefix(_SQLITE)).is_file():
        raise InputError(f"there is no MLflow database {address.removeprefix(_SQLITE)}; check MLFLOW_TRACKING_URI")
    return address


def database(folder: Path) -> Path:
    """The run folder's own database."""
    return folder.resolve() / "mlflow.db"


def is_server(uri: str) -> bool:
    """Whether an MLflow server answers there, rather than a database."""
    return uri.startswith(_SERVERS)


def artifact_location(uri: str, folder: Path) -> str | None:
    """Where artifacts go: beside the database, or None where the server decides."""
    return None if is_server(uri) else (folder.resolve() / "mlartifacts").as_uri()


def before_import() -> None:
    """How MLflow is to behave in this process, unless the user's environment says otherwise."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def connect(uri: str) -> MlflowClient:
    """A client of the store. A database is made and migrated first, and a SQLite file gets its log.

    No other process may open a new database at the same time: MLflow's migrations race.
    """
    before_import()
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not uri.startswith(_SQLITE):
        return MlflowClient(uri)
    file = Path(uri.removeprefix(_SQLITE))
    with _whole(file):
        client = MlflowClient(uri)
        # Readers (the UI) and the writer must not wait for each other. The setting stays in the file.
        with closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA journal_mode=WAL")
    return client


@contextmanager
def _whole(file: Path) -> Iterator[None]:
    """Makes a SQLite file whole or not at all.

    MLflow cannot go on with migrations that a kill cut off; as nothing is in such a file yet, it is made anew.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.unfinished")
    if unfinished.exists():
        for ending in ("", "-wal", "-shm", "-journal"):
            file.with_name(f"{file.name}{ending}").unlink(missing_ok=True)
    elif file.exists():
        yield
        return
    unfinished.touch()
    yield
    unfinished.unlink()
