"""What a snapshot of a trial's folder holds: its files, and the objects that have their bytes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import PurePosixPath

from orchestrator.storage.fence import Fence, ObjectName
from orchestrator.storage.sealed import DamagedError, seal, unseal

MANIFEST = "manifest-"  # how the names of manifests begin; they sort by their sequence


def manifest_name(sequence: int) -> str:
    """The name of an attempt's manifest, below its fence."""
    return f"{MANIFEST}{sequence:08d}"


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file of the folder. `object` is the full name below the trial's prefix."""

    path: str
    object: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A whole snapshot. `start` is the number that the attempt's session had; a later one has a higher."""

    trial: str
    generation: int
    attempt: int
    sequence: int
    start: int
    files: tuple[FileEntry, ...]

    @property
    def name(self) -> ObjectName:
        """Where it is kept, below the trial's prefix."""
        return ObjectName(Fence(self.generation, self.attempt), manifest_name(self.sequence))

    def encode(self) -> bytes:
        """The object's bytes, with their checksum."""
        return seal(json.dumps(dataclasses.asdict(self), separators=(",", ":")).encode())


def decode(sealed: bytes, *, trial: str, name: ObjectName) -> Manifest:
    """The manifest that must be this trial's and of this name. Raises DamagedError."""
    try:
        body = json.loads(unseal(sealed))
        found = Manifest(**body | {"files": tuple(FileEntry(**entry) for entry in body["files"])})
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"it is no manifest ({error})") from error
    if found.trial != trial or found.name != name:
        raise DamagedError(f"it is trial {found.trial}'s {found.name}")
    for entry in found.files:
        if not stays_inside(entry.path):
            raise DamagedError(f"its file {entry.path!r} would leave the folder")
    return found


def stays_inside(path: str) -> bool:
    """Whether a relative path with slashes leads nowhere else."""
    parts = PurePosixPath(path)
    return bool(path) and not parts.is_absolute() and ".." not in parts.parts
