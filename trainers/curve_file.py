"""The curve file that a command appends to: JSON lines with tokens and loss."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from trainers.api import Cause, CurvePoint, TrialFailed

_OPTIONAL = tuple(field.name for field in fields(CurvePoint) if field.name not in {"tokens", "loss", "time"})


class CurveFile:
    """Reads whole lines as they appear.

    Opening it drops a torn last line of an earlier attempt. What earlier attempts wrote is in `earlier`: for
    equal tokens the last line counts, since a restarted script repeats some. Raises TrialFailed (user error)
    with number and text of a line that is no point, or whose tokens do not rise.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._line = 0
        self._last_tokens = 0
        path.touch()
        text = path.read_bytes()
        os.truncate(path, text.rfind(b"\n") + 1)
        points = {point.tokens: point for point in self._parse(text[: text.rfind(b"\n") + 1])}
        self.earlier = tuple(points[tokens] for tokens in sorted(points))

    def new_points(self) -> list[CurvePoint]:
        """The points of the lines that were completed since the last call."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        points = self._parse(text[: text.rfind(b"\n") + 1])
        for point in points:
            if point.tokens <= self._last_tokens:
                raise TrialFailed(
                    Cause.USER_ERROR,
                    f"{self.path} has a line at {point.tokens:,} tokens after one at {self._last_tokens:,}; "
                    "a start of the command must append lines whose tokens rise",
                )
            self._last_tokens = point.tokens
        return points

    def earlier_than(self, tokens: int) -> int:
        """How far earlier attempts certainly were when they had not reached so many tokens."""
        return max((point.tokens for point in self.earlier if point.tokens < tokens), default=0)

    def _parse(self, text: bytes) -> list[CurvePoint]:
        points = []
        for line in text.splitlines():
            self._line += 1
            if line.strip():
                points.append(self._point(line))
        self._offset += len(text)
        return points

    def _point(self, line: bytes) -> CurvePoint:
        try:
            return _point(json.loads(line))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            shown = line[:200].decode(errors="replace")
            raise TrialFailed(
                Cause.USER_ERROR,
                f'{self.path} line {self._line} is {shown!r}; expected a line like {{"tokens": 65536, "loss": 3.21}}',
            ) from error


def _point(record: Any) -> CurvePoint:  # noqa: ANN401 - whatever stands in the user's file
    if not isinstance(record, Mapping):
        raise TypeError(type(record).__name__)
    tokens = _number(record["tokens"])
    if tokens != int(tokens):
        raise ValueError(tokens)
    # Some languages have no JSON for a loss that is not a number, and write null.
    loss = math.nan if record["loss"] is None else _number(record["loss"])
    optional = {name: _number(record[name]) for name in _OPTIONAL if record.get(name) is not None}
    return CurvePoint(tokens=int(tokens), loss=loss, time=time.time(), **optional)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(type(value).__name__)
    return float(value)
