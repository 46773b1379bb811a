"""Puts the newest whole snapshot of a trial into an empty folder."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from orchestrator.storage.fence import Fence, ObjectName, objects_of, trial_prefix
from orchestrator.storage.manifest import MANIFEST, FileEntry, Manifest, decode
from orchestrator.storage.sealed import DamagedError
from orchestrator.storage.store import Store

logger = logging.getLogger(__name__)

_LISTINGS = 5  # how often the list is read again because an older attempt still writes and tidies; a guess


def pull(store: Store, key: str, below: Fence, folder: Path) -> Manifest | None:
    """The newest whole snapshot of an attempt below the fence; None where there is none. Makes the folder.

    A damaged one is skipped with a warning. Raises StorageError, and OSError where the folder cannot be written.
    """
    skipped: set[ObjectName] = set()
    for _ in range(_LISTINGS):
        names = [each for each in objects_of(store, key) if each.fence < below and each.name.startswith(MANIFEST)]
        if set(names) <= skipped:
            break
        for name in reversed(names):
            found = None if name in skipped else _try(store, key, name, folder)
            if found is not None:
                return found
            skipped.add(name)
    _empty(folder)
    return None


def _try(store: Store, key: str, name: ObjectName, folder: Path) -> Manifest | None:
    _empty(folder)
    try:
        manifest = decode(store.get(f"{trial_prefix(key)}{name}"), trial=key, name=name)
        for entry in manifest.files:
            _fetch(store, key, entry, folder)
    except (DamagedError, FileNotFoundError) as error:
        logger.warning("%s: snapshot %s is damaged (%s); trying an older one", key, name, error)
        return None
    return manifest


def _fetch(store: Store, key: str, entry: FileEntry, folder: Path) -> None:
    target = folder / entry.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if store.download(f"{trial_prefix(key)}{entry.object}", target) != entry.sha256:
        raise DamagedError(f"object {entry.object} of {entry.path} does not match its checksum")


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
