"""Databases by their SQLAlchemy address: whether two are one, whether one lets us in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.courier import StoreUnreachable
from search_spaces.errors import InputError
from trainers.masking import masked

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

# How long a database may take to answer, seconds. A guess.
PATIENCE_S = 10
_BACKENDS = ("postgresql", "mysql", "mariadb", "sqlite")
_LOCAL_HOSTS = {None, "", "localhost", "127.0.0.1", "::1"}
_DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
# Of a server that went away without a word, a connection is given up after so long.
_CONNECT = {
    "postgresql": {
        "connect_timeout": PATIENCE_S,
        "tcp_user_timeout": 20_000,  # milliseconds
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    },
    "sqlite": {"timeout": 20},
}


def parse(uri: str, *, key: str) -> URL:
    """The parts of an address. Raises InputError, naming the sweep file's key, where it is none."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):  # of a port that is no number
        url = None
    if url is None or url.get_backend_name() not in _BACKENDS:
        raise InputError(
            f"{key} is {masked(uri)!r}; give a database, such as postgresql+psycopg://USER@HOST/DATABASE or "
            "sqlite:///PATH"
        )
    return url


def connect_arguments(url: URL) -> dict[str, int]:
    """What keeps a connection from hanging."""
    return dict(_CONNECT.get(url.get_backend_name(), {}))


def check_apart(tracking: str | None, studies: str | None) -> None:
    """Raises InputError where MLflow and Optuna would share one database: both number their schema there."""
    if studies is None:
        return
    kept = parse(studies, key="studies.uri")
    if tracking is None or tracking.startswith(("http://", "https://", "databricks")):
        return
    if _identity(kept) == _identity(parse(tracking, key="tracking.uri")):
        raise InputError(
            f"tracking.uri and studies.uri are one database ({masked(studies)}); Optuna and MLflow cannot share "
            "one: give the studies a database of their own (two on one server are fine)"
        )


def engine_of(uri: str, *, key: str) -> Engine:
    """An engine whose connections do not hang. Raises InputError where its driver is not there."""
    from sqlalchemy import NullPool, create_engine

    url = parse(uri, key=key)
    try:
        return create_engine(url, poolclass=NullPool, connect_args=connect_arguments(url))
    except ImportError as error:
        raise InputError(
            f"{key} is {masked(uri)!r}, whose driver is not installed ({error}); for Postgres give "
            "postgresql+psycopg:// and, in scalesweep's checkout, `pip install '.[postgres]'`"
        ) from None


def check_database(uri: str, *, key: str) -> None:
    """Raises InputError where the database will not have us, StoreUnreachable where it does not answer."""
    from sqlalchemy.exc import SQLAlchemyError

    engine = engine_of(uri, key=key)
    try:
        engine.connect().close()
    except SQLAlchemyError as error:
        said = masked(" ".join(str(getattr(error, "orig", None) or error).split()))
        if _refused(error):
            raise InputError(
                f"{key}: {masked(uri)} refuses us: {said}; give the user in the address and the password by "
                "PGPASSWORD or in ~/.pgpass"
            ) from None
        raise StoreUnreachable(f"{masked(uri)} does not answer: {said}") from None
    finally:
        engine.dispose()


def _refused(error: Exception) -> bool:
    """Whether a password was asked for: an answer. Anything else may pass."""
    connection = getattr(getattr(error, "orig", None), "pgconn", None)
    return bool(connection is not None and (connection.needs_password or connection.used_password))


def _identity(url: URL) -> tuple[object, ...]:
    backend = url.get_backend_name()
    if backend == "sqlite":
        return backend, Path(url.database or "").resolve()
    host = "" if url.host in _LOCAL_HOSTS else (url.host or "").lower()
    return backend, host, url.port or _DEFAULT_PORTS.get(backend), url.database or url.username
