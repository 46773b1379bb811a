"""A worker's folders on its own node's disk: locked while they are used, swept when their process has died."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRATCH_VARIABLE = "SCALESWEEP_SCRATCH"
_BUSY_S = 0.01  # a neighbour holds the lock for as long as it takes to remove an empty folder


def scratch_root() -> Path:
    """$SCALESWEEP_SCRATCH, or a folder of this user's in the system's temporary one."""
    given = os.environ.get(SCRATCH_VARIABLE)
    return Path(given) if given else Path(tempfile.gettempdir()) / f"scalesweep-{os.getuid()}"


@contextmanager
def scratch(sweep_id: str, name: str) -> Iterator[Path]:
    """A folder that goes away with the block; what killed processes left of this sweep goes away before.

    It is not there yet. Raises OSError where the disk cannot be written or somebody else owns the root.
    """
    root = scratch_root()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root.stat().st_uid != os.getuid():
        raise PermissionError(f"{root} is another user's; set {SCRATCH_VARIABLE} to a folder of yours")
    place = root / sweep_id
    place.mkdir(exist_ok=True)
    for lock in place.glob("*.lock"):
        with _locked(lock) as ours:
            if ours:
                _remove(lock)
    lock = place / f"{name}.lock"
    while True:
        with _locked(lock) as ours:
            if ours and lock.exists():  # else a neighbour that sweeps has it, or has just taken it away
                try:
                    yield lock.with_suffix("")
                finally:
                    _remove(lock)
                return
        time.sleep(_BUSY_S)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether the lock was free, and is now held for the block."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(handle)


def _remove(lock: Path) -> None:
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    lock.unlink(missing_ok=True)
