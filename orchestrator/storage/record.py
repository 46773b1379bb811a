"""The part of a run folder that cannot be made again: the sweep file, the ledger, the curves."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.storage.segments import Part

SWEEP, LEDGER = "sweep.yaml", "ledger.jsonl"
_CURVE = re.compile(r"trials/[A-Za-z0-9._-]+/curve\.jsonl")


def belongs(path: str) -> bool:
    """Whether a path, below the run folder, is the record's."""
    return path in {SWEEP, LEDGER} or (_CURVE.fullmatch(path) is not None and ".." not in path)


@dataclass
class Reader:
    """Reads what is new in a run folder, whole lines only. `advance` once that was kept."""

    folder: Path
    _offsets: dict[str, int] = field(default_factory=dict, init=False)
    _sweep: bytes = field(default=b"", init=False)

    def new(self, *, whole: bool = False) -> tuple[Part, ...]:
        """What was appended since the last `advance`, or everything. The ledger comes first.

        So the curves have all the points of the trials that the ledger says are over. Where only they have grown,
        an empty part of the ledger tells how much of it there was.
        """
        if whole:
            self._offsets, self._sweep = {}, b""
        ledger = self._appended(LEDGER)
        curves = [self._appended(self._below(path)) for path in sorted(self.folder.glob("trials/*/curve.jsonl"))]
        others = tuple(part for part in (self._replaced(), *curves) if part is not None)
        if ledger is None and others and (offset := self._offsets.get(LEDGER)):
            ledger = Part(path=LEDGER, offset=offset, data=b"")
        return others if ledger is None else (ledger, *others)

    def advance(self, parts: tuple[Part, ...]) -> None:
        """The parts were kept."""
        for part in parts:
            if part.path == SWEEP:
                self._sweep = part.data
            else:
                self._offsets[part.path] = part.offset + len(part.data)

    def _below(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _appended(self, path: str) -> Part | None:
        offset = self._offsets.get(path, 0)
        try:
            with (self.folder / path).open("rb") as file:
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            return None
        data = data[: data.rfind(b"\n") + 1]  # a line that is being written waits
        return Part(path=path, offset=offset, data=data) if data else None

    def _replaced(self) -> Part | None:
        try:
            data = (self.folder / SWEEP).read_bytes()
        except FileNotFoundError:
            return None
        return Part(path=SWEEP, offset=0, data=data) if data != self._sweep else None
