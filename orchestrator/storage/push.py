"""Pushes snapshots of a trial's folder while it is trained."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.storage.fence import CLAIM, Fence, ObjectName, objects_of, refuse_if_fenced, trial_prefix
from orchestrator.storage.manifest import MANIFEST, FileEntry, Manifest
from orchestrator.storage.store import CutShortError, Store
from search_spaces.errors import ScalesweepError, StorageError
from trainers.spool import POINTS_FILE

_KEPT = 2  # snapshots: the newest, and one to fall back on
_CHUNK = 2**22  # bytes read at once


class UnsettledError(ScalesweepError):
    """A file changed while it was copied: the snapshot waits."""


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What tells a changed file from an unchanged one without reading it."""

    bytes: int
    changed_ns: int
    inode: int


class Pusher:
    """The snapshots of one claimed attempt, from a folder into which `pulled` was put. For one thread at a time.

    `start` is the attempt's number, or a higher one where the pulled snapshot's was as high: a ledger that lost
    its last seconds counts again.

    A file that only grows (points.jsonl, a log) is kept up to the size that it had; any other change while a
    snapshot is made makes it wait. Every method raises StorageError.
    """

    def __init__(self, store: Store, key: str, fence: Fence, folder: Path, pulled: Manifest | None) -> None:
        self._store, self._key, self._fence, self._folder = store, key, fence, folder
        self.start = max(fence.attempt, pulled.start + 1) if pulled else fence.attempt
        self._prefix = trial_prefix(key)
        self._sequence = self._objects = 0
        self._pushed: dict[str, tuple[_Look, FileEntry]] = {}
        for entry in pulled.files if pulled else ():
            self._pushed[entry.path] = (_look(folder / entry.path), entry)
        self._standing = [pulled] if pulled else []  # whole snapshots, oldest first
        self._listed = set(self._pushed)  # the files of the newest one

    def push(self, wanted: Callable[[str], bool] = lambda _: True, *, kept: int = _KEPT) -> bool:
        """Write a snapshot of the wanted files, if they changed since the last; whether it was needed.

        The newest `kept` stay. Raises FencedError or UnsettledError.
        """
        found = {path: look for path, look in _looks(self._folder).items() if wanted(path)}
        if set(found) == self._listed and all(self._known(path, look) for path, look in found.items()):
            return False
        refuse_if_fenced(self._store, self._key, self._fence)
        # Points last: they then cover every checkpoint that the snapshot has.
        has_points = found.pop(POINTS_FILE, None) is not None
        entries = {path: self._entry(path) for path in found}
        for path in found:
            _refuse_if_changed(self._folder / path, *self._pushed[path])
        if has_points:
            entries[POINTS_FILE] = self._entry(POINTS_FILE)
        self._write_manifest(entries)
        self._check_written()
        self._tidy(kept)
        return True

    def _check_written(self) -> None:
        """Raises FencedError, since a higher attempt may be reading what would be removed, and StorageError."""
        try:
            refuse_if_fenced(self._store, self._key, self._fence)
        except StorageError:  # what was written may be elsewhere, where a shared folder is not mounted
            self._pushed, self._listed = {}, set()
            raise

    def _known(self, path: str, look: _Look) -> FileEntry | None:
        """The entry of a file that was pushed as it is now."""
        pushed_as, entry = self._pushed.get(path, (None, None))
        return entry if pushed_as == look else None

    def _entry(self, path: str) -> FileEntry:
        """The file's entry, after its bytes were pushed if they were not."""
        name = ObjectName(self._fence, f"object-{self._objects + 1:08d}")
        try:
            with (self._folder / path).open("rb") as file:
                look = _of(os.fstat(file.fileno()))
                known = self._known(path, look)
                if known is not None:
                    return known
                self._objects += 1
                digest = self._store.upload(f"{self._prefix}{name}", file, look.bytes)
        except (CutShortError, FileNotFoundError) as error:
            raise UnsettledError(f"{path}: {error}") from error
        entry = FileEntry(path=path, object=str(name), bytes=look.bytes, sha256=digest)
        self._pushed[path] = (look, entry)
        return entry

    def _write_manifest(self, entries: Mapping[str, FileEntry]) -> None:
        manifest = Manifest(
            trial=self._key,
            generation=self._fence.generation,
            attempt=self._fence.attempt,
            sequence=self._sequence + 1,
            start=self.start,
            files=tuple(entries[path] for path in sorted(entries)),
        )
        self._store.put(f"{self._prefix}{manifest.name}", manifest.encode())
        self._sequence += 1
        self._standing.append(manifest)
        self._pushed = {path: self._pushed[path] for path in entries}
        self._listed = set(entries)

    def _tidy(self, kept: int) -> None:
        """Remove older snapshots, and the objects that the kept ones do not need."""
        self._standing = self._standing[-kept:]
        needed = {f"{self._fence}/{CLAIM}"} | {str(manifest.name) for manifest in self._standing}
        needed |= {entry.object for manifest in self._standing for entry in manifest.files}
        unneeded = [
            name for name in objects_of(self._store, self._key) if name.fence <= self._fence and str(name) not in needed
        ]
        # Manifests first, so that none stands without its objects.
        unneeded.sort(key=lambda name: not name.name.startswith(MANIFEST))
        self._store.remove(f"{self._prefix}{name}" for name in unneeded)


def _looks(folder: Path) -> dict[str, _Look]:
    """The folder's regular files, by their path below it; what is half-written by name is left out."""
    found = {}
    for parent, _, files in os.walk(folder):
        for file in files:
            path = Path(parent) / file
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode) and path.suffix != ".tmp":
                found[path.relative_to(folder).as_posix()] = _of(status)
    return found


def _look(path: Path) -> _Look:
    return _of(path.stat())


def _of(status: os.stat_result) -> _Look:
    return _Look(bytes=status.st_size, changed_ns=status.st_mtime_ns, inode=status.st_ino)


def _refuse_if_changed(path: Path, look: _Look, entry: FileEntry) -> None:
    """Raises UnsettledError, unless the file is as it was when it was copied or has only grown since."""
    try:
        now = _look(path)
        grown = now.inode == look.inode and now.bytes > look.bytes
        if now == look or (grown and _sha256(path, entry.bytes) == entry.sha256):
            return
    except FileNotFoundError:
        pass
    raise UnsettledError(f"{entry.path} changed while it was copied")


def _sha256(path: Path, size: int) -> str:
    """Of the file's first bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(_CHUNK, size))):
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest()
