"""Signs of life that a driver leaves in its storage, so that no second one goes on with a sweep beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator import ledger
from orchestrator.ledger import Opened
from orchestrator.storage.record import LEDGER
from orchestrator.storage.store import Store
from search_spaces.errors import RunFolderError

_SIGN = "alive/sign"
# A driver that has given no sign for so long is taken for dead, seconds: it gives one every four, more rarely while it
# copies much. A guess. One that lives behind a link that is cut is told when it comes back; see Recorder.
_SILENT_S = 15.0
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Sign:
    """Of the driver that opened the run folder at this time (None: it is not known when)."""

    opened: float | None
    number: int = 0  # each is one more than the one before
    left: bool = False  # the last one: everything was copied


def starts_of(folder: Path) -> list[float]:
    """When drivers opened a run folder, as its ledger has it."""
    history = ledger.read(folder) if (folder / LEDGER).exists() else ledger.History()
    return [event.time for event in history.of(Opened)]


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


def refuse_beside_another(store: Store, folder: Path, say: Callable[[str], None], silent_s: float = _SILENT_S) -> None:
    """Raises RunFolderError where a driver with another run folder is at work; waits to see whether one is.

    The folder must be the caller's alone: then its own last driver is dead.
    """
    first = last_sign(store)
    if first is None or first.left or first.opened in starts_of(folder)[-1:]:
        return
    say(f"storage {store.address} was left by no driver: looking for {silent_s:.0f} s whether its last one lives")
    deadline = time.monotonic() + silent_s
    while time.monotonic() < deadline:
        time.sleep(min(_LOOK_EVERY_S, silent_s))
        if (now := last_sign(store)) != first and now is not None:
            if now.left:
                return
            raise RunFolderError(
                f"another driver is at work on storage {store.address}, with another run folder; see `scalesweep "
                f"status {store.address}`, and `scalesweep pause {store.address}` before you go on here"
            )


def refuse_unknown(store: Store, starts: Collection[float], before: Sign | None) -> None:
    """Raises RunFolderError where a driver has used the storage that the run folder does not know of.

    `before` is the sign that there was before the folder was restored: what its driver had not copied is lost.
    """
    sign = last_sign(store)
    known = {*starts, *((before.opened,) if before else ())}
    if sign is not None and sign.opened is not None and sign.opened not in known:
        raise RunFolderError(
            f"another driver has begun on storage {store.address} while this one started, and recorded what this one "
            "does not know; give this command again"
        )
