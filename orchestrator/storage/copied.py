"""How far the copy of a sweep's record in storage is behind its run folder."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.storage.patience import in_background
from orchestrator.storage.record import LEDGER
from orchestrator.storage.segments import DRIVER, Part, decode, segment_names
from orchestrator.storage.sign import given_at, last_sign
from orchestrator.storage.store import Store, open_store
from search_spaces.errors import ScalesweepError
from trainers.masking import masked

# One line of a status is not worth a longer wait. Seconds; a guess.
_PATIENCE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What storage has of a record. What is not known is None; `problem` says what is wrong, if anything is.

    `written_at` is when the newest piece was written, and `driver_seen_at` when its driver gave the last sign of life,
    by the storage's clock, in seconds since 1970; `driver_left`: it said that this was the last. The copy has `events`
    of the run folder's `events_here`: None where there is the copy alone.
    """

    storage: str
    problem: str = ""
    written_at: float | None = None
    driver_seen_at: float | None = None
    driver_left: bool = False
    events: int | None = None
    events_here: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Newest:
    """The newest piece of a copy, and the newest part of the ledger, of a record that has begun."""

    written_at: float
    ledger: Part | None
    driver_seen_at: float | None
    driver_left: bool


class CopyWatch:
    """Looks at the copy, as often as one likes, and waits some seconds at most."""

    def __init__(self, address: str, *, patience_s: float = _PATIENCE_S) -> None:
        self._address, self._patience_s = address, patience_s
        self._asked: Future[_Newest | None] | None = None

    def look(self, folder: Path | None) -> Copied:
        """How far it is, beside a run folder if there is one. Raises nothing of the storage's."""
        # A question without an answer yet is not asked again: threads would pile up.
        self._asked = asked = self._asked or in_background(lambda: _newest(open_store(self._address)))
        nothing = Copied(storage=self._address)
        try:
            newest = asked.result(self._patience_s)
        except TimeoutError:
            return replace(nothing, problem=f"did not answer within {self._patience_s:g} s")
        except FileNotFoundError:
            problem = "changed while it was looked at"
        except ScalesweepError as error:
            problem = f"cannot be read: {masked(str(error))}"
        else:
            problem = "" if newest else "has nothing of this sweep yet"
        self._asked = None
        return replace(nothing, problem=problem) if problem or not newest else _beside(folder, newest, nothing)


def _newest(store: Store) -> _Newest | None:
    """Reads one piece, since each tells how much of the ledger there was, and the driver's sign."""
    names = segment_names(store.names(DRIVER))
    if not names:
        return None
    newest_first = [name for name in reversed(names) if name.chain == names[-1].chain]
    parts = (part for name in newest_first for part in decode(store.get(str(name)), name=name).parts)
    ledger = next((part for part in parts if part.path == LEDGER), None)
    sign = last_sign(store)
    return _Newest(
        written_at=store.written_at(str(names[-1])),
        ledger=ledger,
        driver_seen_at=None if sign is None else given_at(store),
        driver_left=sign is not None and sign.left,
    )


def _beside(folder: Path | None, newest: _Newest, nothing: Copied) -> Copied:
    """Read the run folder after the copy, which then cannot be ahead of it."""
    found = replace(
        nothing,
        written_at=newest.written_at,
        driver_seen_at=newest.driver_seen_at,
        driver_left=newest.driver_left,
    )
    if folder is None:
        return found
    content = (folder / LEDGER).read_bytes()
    start, data = (newest.ledger.offset, newest.ledger.data) if newest.ledger else (0, b"")
    end = start + len(data)
    if content[start:end] != data or end > len(content):
        return replace(found, problem="has another record than this folder: a driver went on with another one")
    return replace(found, events=content.count(b"\n", 0, end), events_here=content.count(b"\n"))
