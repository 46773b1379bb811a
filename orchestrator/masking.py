"""Keeps passwords and tokens out of everything that is written or shown."""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from search_spaces.errors import InputError

MASK = "***"
# Variables of the environment that hold secrets end like this, by custom.
_SECRET_VARIABLE = re.compile(r"[A-Z0-9_]*(PASSWORD|PASSWD|TOKEN|SECRET|KEY)")
_SECRET_KEY = re.compile(r"(\w+[_-])?(password|passwd|secret|api_?key|secret_key|(auth|access|api|bearer)_token)")
# Shorter ones, and plain numbers, are parts of other texts, too. Characters; a guess.
_SHORTEST = 6
# user:password@ of an address, up to the last @: a password may hold a slash or an at sign.
_IN_USER = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<user>[^\s:/@?#]*):[^\s\"']*@", re.IGNORECASE)
_BARE_TOKEN = re.compile(r"(?P<scheme>\bhttps?://)[^\s:/@?#]+@", re.IGNORECASE)
_IN_QUERY = re.compile(
    r"(?P<name>[?&;](?:[\w-]*(?:password|passwd|token|secret|key)|sig|signature)=)[^\s&'\";]*", re.IGNORECASE
)
_INSTEAD = (
    "it would stand in the run folder and in logs; leave it out and give it by the environment "
    "(PGPASSWORD or ~/.pgpass for Postgres, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or "
    "MLFLOW_TRACKING_TOKEN for MLflow, AWS_SECRET_ACCESS_KEY for S3; a command inherits the worker's environment)"
)


def masked(text: str) -> str:
    """The text without the passwords of addresses in it, and without the secrets of this process' environment."""
    text = _IN_USER.sub(rf"\g<scheme>\g<user>:{MASK}@", text)
    text = _BARE_TOKEN.sub(rf"\g<scheme>{MASK}@", text)
    text = _IN_QUERY.sub(rf"\g<name>{MASK}", text)
    for secret in _secrets():
        text = text.replace(secret, MASK)
    return text


def refuse_secrets(content: Mapping[str, Any], *, source: str) -> None:
    """Raises InputError, without repeating it, where a sweep file's content holds a password or token."""
    for place, value in _leaves(content, ""):
        key = place.rpartition(".")[2]
        if value and (_SECRET_VARIABLE.fullmatch(key) or _SECRET_KEY.fullmatch(key.lower())):
            raise InputError(f"{source}: {place} is a secret: {_INSTEAD}")
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


def _secrets() -> list[str]:
    """Longest first, so that no part of one is left."""
    found = {
        value
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST and _SECRET_VARIABLE.fullmatch(name) and not value.isdigit()
    }
    return sorted(found, key=len, reverse=True)


def _leaves(content: object, place: str) -> Iterator[tuple[str, str]]:
    """Every text, with the dotted keys that lead to it."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _leaves(value, f"{place}.{key}" if place else str(key))
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _leaves(value, place)
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
