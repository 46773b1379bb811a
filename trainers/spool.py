"""The durable record of one trial's points on a worker's disk."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainers.api import Cause, CurvePoint, TrialFailed
from trainers.checked_lines import decode, encode

POINTS_FILE = "points.jsonl"
ATTEMPT_FILE = "attempt"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, says that the disk or the quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an OSError of the block into a TrialFailed that names the path."""
    try:
        yield
    except OSError as error:
        cause = Cause.DISK_FULL if disk_is_full(error) else Cause.USER_ERROR
        raise TrialFailed(cause, f"cannot write {path}: {error.strerror or error}; points so far are kept") from error


@dataclass(frozen=True, kw_only=True)
class History:
    """What the attempts so far recorded. `points` has, for equal tokens, the highest attempt's."""

    points: Mapping[int, CurvePoint]
    seconds: float
    repeated_tokens: int

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """The points in the order of their tokens."""
        return tuple(self.points[tokens] for tokens in sorted(self.points))


class Spool:
    """Appends an attempt's points to the trial's folder, one JSON line each, flushed at once.

    Opening drops a torn last line and fences off every older attempt: its next append fails. Raises
    TrialFailed where a newer attempt has the folder, a line is damaged or the disk cannot be written.
    """

    def __init__(self, folder: Path, attempt: int) -> None:
        self._path = folder / POINTS_FILE
        self._fence = folder / ATTEMPT_FILE
        self._attempt = attempt
        with storage_errors(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._take_over()
            self.history = _history(_records(self._path), attempt)
            self._file = self._path.open("ab", buffering=0)
        self._append("started", time.time())

    def point(self, point: CurvePoint) -> None:
        """Record a point."""
        self._append("point", asdict(point))

    def repeated(self, tokens: int) -> None:
        """Record that so many tokens are trained again."""
        self._append("repeated", tokens)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, kind: str, value: object) -> None:
        self._refuse_if_fenced()
        line = encode({"attempt": self._attempt, kind: value})
        with storage_errors(self._path):
            written = self._file.write(line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _take_over(self) -> None:
        self._refuse_if_fenced()
        new = self._fence.with_name(f"{ATTEMPT_FILE}.{self._attempt}")
        new.write_text(str(self._attempt))
        new.replace(self._fence)

    def _refuse_if_fenced(self) -> None:
        owner = _number(self._fence)
        if owner > self._attempt:
            raise TrialFailed(Cause.WORKER_LOST, f"attempt {owner} has taken over from attempt {self._attempt}")


def _number(path: Path) -> int:
    try:
        return int(path.read_text() or 0)
    except FileNotFoundError:
        return 0


def _records(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a spool; what stands after the last line break was torn, and is cut off."""
    if not path.exists():
        return []
    text = path.read_bytes()
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        os.truncate(path, whole)
    return [_record(path, number, line) for number, line in enumerate(text[:whole].splitlines(), start=1)]


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return decode(line)
    except ValueError as error:
        raise TrialFailed(
            Cause.USER_ERROR,
            f"{path}: line {number} is damaged ({error}); remove its folder to train the trial anew",
        ) from error


def _history(records: list[dict[str, Any]], attempt: int) -> History:
    points: dict[int, CurvePoint] = {}
    owner: dict[int, int] = {}
    started: dict[int, float] = {}
    last: dict[int, float] = {}
    repeated = 0
    for record in records:
        writer = record["attempt"]
        if "started" in record:
            started[writer] = last[writer] = record["started"]
        repeated += record.get("repeated", 0)
        if "point" in record and writer <= attempt:
            point = CurvePoint(**record["point"])
            last[writer] = max(last.get(writer, point.time), point.time)
            if writer >= owner.get(point.tokens, 0):
                points[point.tokens], owner[point.tokens] = point, writer
    seconds = sum(last[writer] - begin for writer, begin in started.items())
    return History(points=points, seconds=max(0.0, seconds), repeated_tokens=repeated)
