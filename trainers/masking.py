"""Keeps passwords and tokens out of everything that is written or shown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping

MASK = "***"
# Variables of the environment that hold secrets end like this, by custom.
SECRET_VARIABLE = re.compile(r"[A-Z0-9_]*(PASSWORD|PASSWD|PASS|_PWD|TOKEN|SECRET|KEY)")
# Shorter ones, and plain numbers, are parts of other texts, too. Characters; a guess.
_SHORTEST = 6
# user:password@ of an address, up to the last @: a password may hold a slash or an at sign. Schemes are not longer, and
# without a bound a long line of words and dots takes seconds.
_IN_USER = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,40}://)(?P<user>[^\s:/@?#]*):[^\s\"']*@", re.IGNORECASE)
_BARE_TOKEN = re.compile(r"(?P<scheme>\bhttps?://)[^\s:/@?#]+@", re.IGNORECASE)
_IN_QUERY = re.compile(
    r"(?P<name>[?&;](?:[\w-]*(?:password|passwd|token|secret|key)|sig|signature)=)[^\s&'\";]*", re.IGNORECASE
)


def masked(text: str) -> str:
    """The text without the passwords of addresses in it, and without the secrets of this process' environment."""
    return masking(os.environ)(text)


def masking(environment: Mapping[str, str]) -> Callable[[str], str]:
    """What `masked` does with the secrets of that environment, which are looked up once."""
    secrets = _secrets(environment)

    def mask(text: str) -> str:
        text = _IN_USER.sub(rf"\g<scheme>\g<user>:{MASK}@", text)
        text = _BARE_TOKEN.sub(rf"\g<scheme>{MASK}@", text)
        text = _IN_QUERY.sub(rf"\g<name>{MASK}", text)
        for secret in secrets:
            text = text.replace(secret, MASK)
        return text

    return mask


def _secrets(environment: Mapping[str, str]) -> list[str]:
    """Longest first, so that no part of one is left."""
    values = {value for name, value in environment.items() if SECRET_VARIABLE.fullmatch(name)}
    found = {form for value in values for form in _forms(value) if len(form) >= _SHORTEST and not form.isdigit()}
    return sorted(found, key=len, reverse=True)


def _forms(secret: str) -> Iterator[str]:
    """As programs print it: as it is, a line at a time (a key has many), and as Python and JSON quote it."""
    yield secret
    yield from secret.splitlines()
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
