"""Appending to files so that a full disk or a kill leaves whole lines only."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

# How long to wait before a write to a full disk is tried again, seconds: a guess.
_FULL_DISK_WAIT_S = 5.0


def append(path: Path, data: bytes) -> None:
    """Append whole lines and fsync. Raises OSError, with the file as it was, where that fails.

    A torn last line, which a kill or a power cut left, is cut off first.
    """
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        before = _cut_torn_line(handle)
        try:
            _write_whole(handle, data)
        except OSError:
            os.ftruncate(handle, before)
            raise
    finally:
        os.close(handle)


def _cut_torn_line(handle: int) -> int:
    """The file's size once what follows its last line break is gone."""
    size = os.fstat(handle).st_size
    if size and os.pread(handle, 1, size - 1) != b"\n":
        size = os.pread(handle, size, 0).rfind(b"\n") + 1
        os.ftruncate(handle, size)
    return size


def _write_whole(handle: int, data: bytes) -> None:
    """Write all of it to a file descriptor and fsync. Raises OSError where only a part fits."""
    if os.write(handle, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(handle)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    part.replace(path)


def patiently(action: Callable[[], T]) -> T:
    """Do it, and wait and try again for as long as the disk is full: nothing measured is dropped."""
    while True:
        try:
            return action()
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            logger.warning("disk full (%s); free some space, trying again in %g s", error, _FULL_DISK_WAIT_S)
            time.sleep(_FULL_DISK_WAIT_S)
