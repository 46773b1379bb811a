"""Whether an MLflow store answers, and takes our credentials."""

from __future__ import annotations

from orchestrator.courier import StoreUnreachable
from orchestrator.databases import PATIENCE_S, check_database
from orchestrator.tracking.store import before_import
from search_spaces.errors import InputError
from trainers.masking import masked

_KEY = "tracking.uri"
_SEARCH = "/api/2.0/mlflow/experiments/search"
_OK = 200
_REFUSALS = {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403}
_CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the environment"


def check(uri: str) -> None:
    """Ask a server or a database for next to nothing, within seconds.

    Raises InputError where our credentials are refused, StoreUnreachable where nothing useful answers.
    """
    if uri.startswith(("http://", "https://")):
        _check_server(uri)
    elif not uri.startswith(("sqlite", "databricks")):
        check_database(uri, key=_KEY)


def version(uri: str) -> str:
    """The version of a server that has passed `check`, to be shown behind its address; empty for a database."""
    if not uri.startswith(("http://", "https://")):
        return ""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    answer = http_request(get_default_host_creds(uri), "/version", "GET", timeout=PATIENCE_S, raise_on_status=False)
    return f", MLflow {answer.text.strip()[:20]}" if answer.status_code == _OK else ""


def excuse(error: Exception, uri: str) -> str:
    """What a person should know about a delivery that failed."""
    status = _REFUSALS.get(getattr(error, "error_code", ""))
    if status is not None:
        return f"{_refusal(uri, status)}; the sweep goes on, and `scalesweep sync RUN_DIR` uploads later"
    return f"MLflow at {masked(uri)} has not got everything yet, and is tried again: {masked(_first_line(error))}"


def _check_server(uri: str) -> None:
    before_import()
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(
            get_default_host_creds(uri),
            _SEARCH,
            "POST",
            max_retries=0,
            timeout=PATIENCE_S,
            raise_on_status=False,
            json={"max_results": 1},
        )
    except (MlflowException, OSError) as error:
        raise StoreUnreachable(f"MLflow at {masked(uri)} does not answer: {masked(_first_line(error))}") from None
    if answer.status_code in _REFUSALS.values():
        raise InputError(f"tracking.uri: {_refusal(uri, answer.status_code)}")
    if answer.status_code != _OK:
        raise StoreUnreachable(f"MLflow at {masked(uri)} answers with HTTP status {answer.status_code}")


def _refusal(uri: str, status: int) -> str:
    return f"MLflow at {masked(uri)} refuses our credentials (HTTP status {status}): {_CREDENTIALS}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
