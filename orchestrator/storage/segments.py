"""Pieces of a run folder's record, as objects: chains of numbered segments, each with what was appended since."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.storage.sealed import DamagedError, seal, unseal

DRIVER = "driver/"
CLAIM = "claim-"  # how the names of a generation's claims begin
_NAME = re.compile(r"driver/g(\d{6,})/(?:c(\d{4,})-s(\d{6,})|claim-.+)")


@dataclass(frozen=True, order=True)
class Chain:
    """A segment that holds everything, and those after it. The highest is the newest."""

    generation: int  # start of a driver on this storage
    number: int


@dataclass(frozen=True, order=True)
class SegmentName:
    """Where a segment is kept. Number 0 of a chain holds the whole record."""

    chain: Chain
    number: int

    def __str__(self) -> str:
        return f"{generation_prefix(self.chain.generation)}c{self.chain.number:04d}-s{self.number:06d}"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Bytes of a file of the run folder. At offset 0 they replace it, else they are appended."""

    path: str
    offset: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Segment:
    """What was appended to the record since the segment before."""

    name: SegmentName
    parts: tuple[Part, ...]

    def encode(self) -> bytes:
        """The object's bytes, with their checksum."""
        parts = [{"path": part.path, "offset": part.offset, "bytes": len(part.data)} for part in self.parts]
        head = json.dumps({"name": dataclasses.asdict(self.name), "parts": parts}, separators=(",", ":"))
        return seal(head.encode() + b"\n" + b"".join(part.data for part in self.parts))


def decode(sealed: bytes, *, name: SegmentName) -> Segment:
    """The segment that must be of this name. Raises DamagedError."""
    head, _, data = unseal(sealed).partition(b"\n")
    try:
        body = json.loads(head)
        ours = body["name"] == dataclasses.asdict(name)
        parts, start = [], 0
        for part in body["parts"]:
            end = start + int(part["bytes"])
            parts.append(Part(path=str(part["path"]), offset=int(part["offset"]), data=data[start:end]))
            start = end
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"it is no segment ({error})") from error
    if not ours or start != len(data):
        raise DamagedError("it is another segment")
    return Segment(name=name, parts=tuple(parts))


def generation_prefix(generation: int) -> str:
    """Where a generation's objects are."""
    return f"{DRIVER}g{generation:06d}/"


def generations(names: Iterable[str]) -> list[int]:
    """The generations that left anything, lowest first."""
    return sorted({int(match[1]) for name in names if (match := _NAME.fullmatch(name))})


def claims_of(names: Iterable[str]) -> list[tuple[str, int]]:
    """The claims among a store's names, with their generations."""
    matches = [match for name in names if (match := _NAME.fullmatch(name)) and not match[2]]
    return [(match[0], int(match[1])) for match in matches]


def segment_names(names: Iterable[str]) -> list[SegmentName]:
    """The segments among a store's names, oldest first."""
    matches = [match for name in names if (match := _NAME.fullmatch(name)) and match[2]]
    return sorted(SegmentName(Chain(int(match[1]), int(match[2])), int(match[3])) for match in matches)
