"""Where a sweep's storage is: the path of a shared folder, or a URL without secrets."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from search_spaces.errors import InputError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Words in the name of a query's key that carries a secret, in the URLs of the clouds; others are harmless.
_SECRET_WORDS = ("key", "secret", "token", "password", "sig", "credential")


def is_url(text: str) -> bool:
    """Whether it names a protocol, and is no path."""
    return _URL.match(text) is not None


def storage_address(given: str) -> str:
    """The storage as every node must know it: an absolute path or a URL, without a slash at its end.

    A relative path is relative to the current folder. Raises ValueError where it is empty, and InputError, which
    does not repeat it, where a URL carries a password or a key.
    """
    if not given.strip():
        raise ValueError("it is empty; give a folder that all nodes share, or a URL such as s3://bucket/prefix")
    if not is_url(given):
        return str(Path(given).expanduser().absolute())
    parts = urlsplit(given)
    if parts.scheme == "file":
        return str(Path(parts.path).absolute())
    secret = next((key for key, _ in parse_qsl(parts.query) if any(word in key.lower() for word in _SECRET_WORDS)), "")
    if "@" in parts.netloc or secret:
        what = f"a secret ({secret})" if secret else "a user or password"
        raise InputError(
            f"storage: the {parts.scheme} URL carries {what}; pass secrets by"
            " the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, say), on every node"
        )
    return given.rstrip("/")
