"""Bytes with their checksum before them: a cut or a flipped bit anywhere is detected."""

from __future__ import annotations

import hashlib

from search_spaces.errors import ScalesweepError


class DamagedError(ScalesweepError):
    """An object is not what was written."""


def seal(body: bytes) -> bytes:
    """A line with the body's sha256, and the body."""
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def unseal(sealed: bytes) -> bytes:
    """The body. Raises DamagedError."""
    checksum, _, body = sealed.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        raise DamagedError("its checksum does not match")
    return body
