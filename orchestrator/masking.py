"""Refuses secrets in sweep files, and keeps them out of the logs."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from search_spaces.errors import InputError
from trainers.masking import SECRET_VARIABLE, masked

_KINDS = r"(password|passwd|secret|api[_-]?key|secret[_-]key|(auth|access|api|bearer|hf)[_-]token)"
_SECRET_KEY = re.compile(rf"(\w+[_-])?({_KINDS}|pass|pwd)")
# An option of a command with its value; a placeholder or a shell's variable is none.
_SECRET_OPTION = re.compile(rf"(?P<option>--?([\w-]*[_-])?{_KINDS})(=|\s+)(?![-{{$])\S+", re.IGNORECASE)
_INSTEAD = (
    "it would stand in the run folder and in logs; leave it out and give it by the environment "
    "(PGPASSWORD or ~/.pgpass for Postgres, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or "
    "MLFLOW_TRACKING_TOKEN for MLflow, AWS_SECRET_ACCESS_KEY for S3; a command inherits the worker's environment)"
)


def refuse_secrets(content: Mapping[str, Any], *, source: str) -> None:
    """Raises InputError, without repeating it, where a sweep file's content holds a password or token."""
    for place, value in _leaves(content, ""):
        key = place.rpartition(".")[2]
        if value and (SECRET_VARIABLE.fullmatch(key) or _SECRET_KEY.fullmatch(key.lower())):
            raise InputError(f"{source}: {place} is a secret: {_INSTEAD}")
        if option := _SECRET_OPTION.search(value):
            raise InputError(f"{source}: {place} has {option['option']} with a secret: {_INSTEAD}")
        if _holds_secret(value):
            raise InputError(f"{source}: {place} is {masked(value)!r}, with a password or token: {_INSTEAD}")


class _MaskedRecord(logging.LogRecord):
    """A log record that has no secrets, whoever formats it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as logging has it
        super().__init__(*arguments, **named)
        if self.exc_info and self.exc_info[0] is not None:
            self.exc_text = masked("".join(traceback.format_exception(*self.exc_info)).rstrip())

    def getMessage(self) -> str:  # noqa: N802 - logging's name
        """The message, masked."""
        return masked(super().getMessage())


def mask_logs() -> None:
    """From now on no log record of this process, ours or a package's, holds a secret."""
    logging.setLogRecordFactory(_MaskedRecord)


def _leaves(content: object, place: str) -> Iterator[tuple[str, str]]:
    """Every text, with the dotted keys that lead to it."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _leaves(value, f"{place}.{key}" if place else str(key))
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _leaves(value, place)
        yield place, " ".join(value for value in content if isinstance(value, str))  # a command, in words
    elif isinstance(content, str):
        yield place, content


def _holds_secret(text: str) -> bool:
    return masked(text) != text or _has_secret_query(text)


def _has_secret_query(text: str) -> bool:
    try:
        query = urlsplit(text).query
    except ValueError:
        return False
    return any(_SECRET_KEY.fullmatch(name.lower()) for name, value in parse_qsl(query) if value)
