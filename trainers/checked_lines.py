"""JSON objects one a line, each with its checksum, so that damage is noticed where it is."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

_MARK = b',"crc":"'


def encode(body: Mapping[str, Any]) -> bytes:
    """A line. A number that is not finite is written as Python reads it."""
    text = json.dumps(body, separators=(",", ":")).encode()
    return text[:-1] + _checksum(text) + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object of a line. Raises ValueError where it is not as it was written."""
    head, _, tail = line.rstrip(b"\n").rpartition(_MARK)
    text = head + b"}"
    if _MARK + tail != _checksum(text):
        raise ValueError("its checksum does not match")
    body: dict[str, Any] = json.loads(text)
    return body


def _checksum(text: bytes) -> bytes:
    return _MARK + b'%08x"}' % zlib.crc32(text)
