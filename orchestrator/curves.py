"""The driver's copy of every loss curve: trials/<trial_key>/curve.jsonl, one line a point."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from orchestrator.files import append
from orchestrator.trial import Trial
from search_spaces.errors import RunFolderError
from trainers.api import CurvePoint
from trainers.checked_lines import decode, encode


def trial_folder(folder: Path, key: str) -> Path:
    """Where everything of one trial is kept."""
    return folder / "trials" / key


def write_points(folder: Path, key: str, attempt: int, points: Sequence[CurvePoint]) -> None:
    """Append points of an attempt. Raises OSError, with nothing written, where the disk is full."""
    path = trial_folder(folder, key) / "curve.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    append(path, b"".join(encode({"attempt": attempt} | dataclasses.asdict(point)) for point in points))


def read_curve(folder: Path, key: str) -> tuple[CurvePoint, ...]:
    """The trial's curve, by rising tokens. Of points at equal tokens the highest attempt's counts.

    A torn last line is left out. Raises RunFolderError with the number of a damaged line.
    """
    path = trial_folder(folder, key) / "curve.jsonl"
    content = path.read_bytes() if path.exists() else b""
    newest: dict[int, tuple[int, CurvePoint]] = {}
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            body = decode(line)
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


def whole_curve(folder: Path, trial: Trial) -> tuple[CurvePoint, ...]:
    """The trial's curve, which for one that was measured ends where its result says.

    Raises RunFolderError where it does not, and as `read_curve` does.
    """
    curve = read_curve(folder, trial.key)
    if trial.state.measured and trial.result is not None:
        found = curve[-1].loss if curve else None
        if found != trial.result.final_loss:
            path = trial_folder(folder, trial.key) / "curve.jsonl"
            lines = path.read_bytes().count(b"\n") if path.exists() else 0
            raise RunFolderError(
                f"{path}: after line {lines} points are missing: its trial ended with a loss of "
                f"{trial.result.final_loss}, and this ends with {found}; put the file back from a copy"
            )
    return curve


class CurveWriter:
    """Appends points to the curves of a run folder, each point once.

    A worker that goes on from a checkpoint trains some points again. They come with other times than before, and
    whoever has the first ones (MLflow) would keep both.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._losses: dict[str, dict[int, float]] = {}  # by key and tokens

    def write(self, key: str, attempt: int, points: Sequence[CurvePoint]) -> tuple[CurvePoint, ...]:
        """Append those that are not there with the same loss; returns them.

        Raises OSError, with nothing written, where the disk is full.
        """
        known = self._known(key)
        new = tuple(point for point in points if known.get(point.tokens) != point.loss)
        if new:
            write_points(self._folder, key, attempt, new)
            known.update((point.tokens, point.loss) for point in new)
        return new

    def reached(self, key: str) -> int:
        """Tokens to which the trial's curve goes."""
        return max(self._known(key), default=0)

    def forget(self, key: str) -> None:
        """Keep no more of a trial in memory."""
        self._losses.pop(key, None)

    def _known(self, key: str) -> dict[int, float]:
        if key not in self._losses:
            self._losses[key] = {point.tokens: point.loss for point in read_curve(self._folder, key)}
        return self._losses[key]
