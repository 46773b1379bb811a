"""The driver's copy of every loss curve: trials/<trial_key>/curve.jsonl, one line a point."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from orchestrator.files import append
from search_spaces.errors import RunFolderError
from trainers.api import CurvePoint


def trial_folder(folder: Path, key: str) -> Path:
    """Where everything of one trial is kept."""
    return folder / "trials" / key


def write_points(folder: Path, key: str, attempt: int, points: Sequence[CurvePoint]) -> None:
    """Append points of an attempt. Raises OSError where the disk is full."""
    path = trial_folder(folder, key) / "curve.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"attempt": attempt} | dataclasses.asdict(point), separators=(",", ":")) for point in points]
    append(path, "".join(f"{line}\n" for line in lines).encode())


def read_curve(folder: Path, key: str) -> tuple[CurvePoint, ...]:
    """The trial's curve, by rising tokens. Of points at equal tokens the highest attempt's counts.

    A torn last line is left out. Raises RunFolderError with the number of a damaged line.
    """
    path = trial_folder(folder, key) / "curve.jsonl"
    content = path.read_bytes() if path.exists() else b""
    newest: dict[int, tuple[int, CurvePoint]] = {}
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            body = json.loads(line)
            attempt = body.pop("attempt")
            point = CurvePoint(**body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunFolderError(
                f"{path}: line {number} is damaged ({error}); remove that line: the trial's own folder has "
                "the point too, and gives it again where the trial is not over"
            ) from error
        if point.tokens not in newest or newest[point.tokens][0] <= attempt:
            newest[point.tokens] = (attempt, point)
    return tuple(newest[tokens][1] for tokens in sorted(newest))
