"""Signs of life that a driver leaves in its storage, so that no second one goes on with a sweep beside it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.storage.store import Store
from search_spaces.errors import RunFolderError

_SIGN = "alive/sign"
# A driver that has given no sign for so long is taken for dead, seconds: it gives one every four, more rarely while it
# copies much. A guess. One that lives behind a link that is cut is told when it comes back; see Recorder.
_SILENT_S = 15.0
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Sign:
    """Of the driver that has a certain run folder; see place_of."""

    place: str
    number: int = 0  # each is one more than the one before
    left: bool = False  # the last one: everything was copied


def place_of(folder: Path) -> str:
    """Tells a run folder from its copies, and from another one at its path."""
    found = folder.resolve()
    return f"{socket.gethostname()}:{found}:{found.stat().st_dev}:{found.stat().st_ino}"


def give(store: Store, sign: Sign) -> None:
    """Leave a sign in the place of the one before. Raises StorageError."""
    store.put(_SIGN, json.dumps(asdict(sign)).encode())


def last_sign(store: Store) -> Sign | None:
    """The newest; None where there is none that can be read. Raises StorageError."""
    try:
        return Sign(**json.loads(store.get(_SIGN)))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def given_at(store: Store) -> float:
    """When the newest was given, by the storage's clock, in seconds since 1970. Raises FileNotFoundError."""
    return store.written_at(_SIGN)


def await_silence(store: Store, folder: Path, say: Callable[[str], None], silent_s: float = _SILENT_S) -> Sign | None:
    """The last sign of a driver that is dead or has left. Waits to see whether it lives.

    The folder must be the caller's alone: then its own last driver is dead. Raises RunFolderError where a driver with
    another run folder is at work.
    """
    first = last_sign(store)
    if first is None or first.left or first.place == place_of(folder):
        return first
    say(f"storage {store.address} was left by no driver: looking for {silent_s:.0f} s whether its last one lives")
    deadline = time.monotonic() + silent_s
    while time.monotonic() < deadline:
        time.sleep(min(_LOOK_EVERY_S, silent_s))
        now = last_sign(store)
        if now is not None and now.left:
            return now
        if now != first:
            raise RunFolderError(
                f"another driver is at work on storage {store.address}, with another run folder; see `scalesweep "
                f"status {store.address}`, and `scalesweep pause {store.address}` before you go on here"
            )
    return first


def refuse_if_changed(store: Store, before: Sign | None) -> None:
    """Raises RunFolderError where a driver has used the storage since a sign was seen: this one knows nothing of it."""
    if last_sign(store) != before:
        raise RunFolderError(
            f"another driver has used storage {store.address} while this one started, and recorded what this one does "
            "not know; give this command again"
        )
