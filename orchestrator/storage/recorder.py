"""The driver's copy of its record in storage, a few seconds behind; and what people ask of it there."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.storage.patience import persistently
from orchestrator.storage.record import Reader
from orchestrator.storage.requests import PAUSE, asked, forget_pause
from orchestrator.storage.segments import (
    CLAIM,
    DRIVER,
    Chain,
    Segment,
    SegmentName,
    claims_of,
    generation_prefix,
    generations,
    segment_names,
)
from orchestrator.storage.sign import Sign, give, place_of
from orchestrator.storage.store import Store
from search_spaces.errors import RunFolderError, StorageError

logger = logging.getLogger(__name__)

_CHAINS_KEPT = 2  # the newest, and one to fall back on


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often storage is written and looked at, in seconds. Guesses: a second costs a new driver's users a second."""

    copy_every_s: float = 2.0
    look_every_s: float = 4.0  # for other drivers and for requests, with a sign of life left
    patience_s: float = 60.0  # how long the start and the end wait for a storage that does not answer
    longest_chain: int = 500  # segments; more take a new driver minutes to read: then everything is written anew


class Recorder:
    """Copies a run folder's record to storage in a thread, for as long as the block lasts.

    Each start takes the next generation. Entering raises StorageError where the storage does not answer, and
    RunFolderError where another driver starts on it at this moment. Later nothing of the storage's ends the sweep, but
    a driver of a higher generation: see `check`.
    """

    def __init__(self, store: Store, folder: Path, pace: Pace = Pace()) -> None:
        self._store, self._pace = store, pace
        self._reader = Reader(folder)
        self._sign = Sign(place=place_of(folder))
        self._next = SegmentName(Chain(0, 0), 0)
        self._claimed = ""
        self._taken_over_by: int | None = None
        self._requested: frozenset[str] = frozenset()
        self._looked_at = time.monotonic()
        self._silent = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scalesweep-recorder", daemon=True)

    def __enter__(self) -> Recorder:
        persistently(self._begin, lambda: self._pace.patience_s)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Copy what is left; what could not be copied is said."""
        self._over.set()
        self._thread.join(self._pace.patience_s)
        if self._taken_over_by is not None:
            return
        if self._thread.is_alive():
            logger.warning("the run folder's last events are not in storage: %s does not answer", self._store.address)
            return
        try:
            persistently(self._end, lambda: self._pace.patience_s)
        except (StorageError, OSError) as error:
            logger.warning("the run folder's last events are not in storage: %s", error)

    @property
    def generation(self) -> int:
        """Which start of a driver on this storage this is, from 1."""
        return self._next.chain.generation

    def check(self) -> None:
        """Raises RunFolderError once another driver has the sweep."""
        if self._taken_over_by is not None:
            raise RunFolderError(
                f"another driver (start {self._taken_over_by}) has taken this sweep over at {self._store.address}; "
                f"this one (start {self.generation}) ends, and its workers with it: leave the sweep to the other one, "
                "or end that and give this command again"
            )

    def requested(self, what: str) -> bool:
        """Whether somebody asked for it in storage, and no earlier driver did it."""
        return what in self._requested

    def _begin(self) -> None:
        """Claim the next generation, and write everything under it."""
        names = self._store.names(DRIVER)
        generation = 1 + max(generations(names), default=0)
        self._claimed = self._claim(generation)
        self._next = SegmentName(Chain(generation, 0), 0)
        self._copy()
        give(self._store, self._sign)
        self._take_requests()

    def _end(self) -> None:
        """Copy what is left. A `pause` that was repeated while it was obeyed is not the next driver's."""
        if not self._is_ours():
            return
        if PAUSE in self._requested:
            forget_pause(self._store)
        self._copy()
        give(self._store, replace(self._sign, left=True))

    def _claim(self, generation: int) -> str:
        """The claim's name. Of two that claim one generation at the same moment, whoever sees the other withdraws."""
        prefix = generation_prefix(generation)
        claim = f"{prefix}{CLAIM}{uuid.uuid4().hex}"
        self._store.put(claim, b"")
        if self._store.names(prefix) != [claim]:
            self._store.remove([claim])
            raise RunFolderError(
                f"another driver starts on storage {self._store.address} at this moment; see with `scalesweep status "
                f"{self._store.address}` whether it runs, else give this command again"
            )
        return claim

    def _run(self) -> None:
        while not self._over.wait(self._pace.copy_every_s) and self._taken_over_by is None:
            try:
                self._copy()
                self._look()
            except Exception as error:  # noqa: BLE001 - whatever a storage's client raises, the copying goes on
                if not self._silent:
                    logger.warning("the record is not copied to storage for now, the sweep goes on: %s", error)
                self._silent = True
                # What was written meanwhile may lie elsewhere: below a mount point that has lost its disk.
                self._next = SegmentName(Chain(self.generation, self._next.chain.number + 1), 0)
            else:
                if self._silent:
                    logger.warning("storage %s answers again, and has the whole record", self._store.address)
                self._silent = False

    def _look(self) -> None:
        """See whether another driver has the sweep, and what people ask."""
        if time.monotonic() - self._looked_at < self._pace.look_every_s:
            return
        if not self._is_ours():
            return  # and what people ask is for the other one to see
        self._sign = replace(self._sign, number=self._sign.number + 1)
        give(self._store, self._sign)
        self._take_requests()
        self._looked_at = time.monotonic()

    def _take_requests(self) -> None:
        """See what people ask. What was seen once is asked for, whatever becomes of the storage."""
        found = asked(self._store)
        self._requested |= found
        if PAUSE in found:
            forget_pause(self._store)

    def _copy(self) -> None:
        """Write what is new as the chain's next segment, or everything as a new chain's first."""
        if self._next.number >= self._pace.longest_chain:
            self._next = SegmentName(Chain(self.generation, self._next.chain.number + 1), 0)
        whole = self._next.number == 0
        parts = self._reader.new(whole=whole)
        if (parts or whole) and not self._is_ours():
            return
        if parts or whole:
            self._store.put(str(self._next), Segment(name=self._next, parts=parts).encode())
            self._reader.advance(parts)
            self._next = SegmentName(self._next.chain, self._next.number + 1)
        if whole:
            self._tidy()

    def _is_ours(self) -> bool:
        """Whether no other driver has the sweep. Raises StorageError where this is not the storage that was claimed."""
        names = self._store.names(DRIVER)
        newest = max(generations(names), default=0)
        if newest > self.generation:
            self._taken_over_by = newest
        elif self._claimed not in names:
            raise StorageError(
                f"storage {self._store.address} is not what it was: {self._claimed} is gone; is it mounted?"
            )
        return self._taken_over_by is None

    def _tidy(self) -> None:
        """Remove all chains but the newest, and older generations' claims; a higher generation's things stay."""
        names = self._store.names(DRIVER)
        segments = [name for name in segment_names(names) if name.chain.generation <= self.generation]
        kept = sorted({name.chain for name in segments if name.number == 0})[-_CHAINS_KEPT:]
        claims = [claim for claim, generation in claims_of(names) if generation < self.generation]
        self._store.remove([*(str(name) for name in segments if name.chain not in kept), *claims])
