"""Delivers what waits for a store, by a thread that outlasts the store's outages."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from orchestrator.outbox import Outbox, Parcel
from search_spaces.errors import ScalesweepError

_log = logging.getLogger(__name__)

# How long a delivery waits for more to go with it, seconds. A guess: people do not look more often,
# and on a laptop each call takes its milliseconds from a trial.
_LINGER_S = 2.0
# Pauses after failures, seconds: the first, the longest, and the one once the courier is closed. Guesses.
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_CLOSING_PAUSE_S = 0.5

P = TypeVar("P", bound=Parcel)
P_contra = TypeVar("P_contra", contravariant=True)


class StoreUnreachable(ScalesweepError):
    """A store does not answer now. What is for it waits."""


class Store(Protocol[P_contra]):
    """An open connection to where parcels go. Raises whatever it likes: that is an outage."""

    def deliver(self, key: str, parcel: P_contra) -> None:
        """Write it. May be repeated on a new connection after an error, when a part is there already."""

    def leave(self) -> None:
        """The last call: nothing more will come from this process."""


class Courier(Generic[P]):
    """One thread that opens a store at the first parcel, and again after each outage.

    `put`, `pending` and `close` never raise because of the store. An outage is logged once, in the words
    of `excuse`.
    """

    def __init__(self, *, name: str, opened: Callable[[], Store[P]], excuse: Callable[[Exception], str]) -> None:
        self._opened = opened
        self._excuse = excuse
        self._outbox: Outbox[P] = Outbox()
        self._store: Store[P] | None = None  # of the courier's thread alone
        self._complained = False  # of the courier's thread alone
        self._deadline = float("inf")  # by time.monotonic
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def put(self, key: str, parcel: P) -> None:
        """Deliver it as soon as may be."""
        self._outbox.put(key, parcel)
        if self._thread.ident is None:
            self._thread.start()

    @property
    def pending(self) -> int:
        """Calls not delivered yet."""
        return self._outbox.pending

    def close(self, timeout_s: float) -> bool:
        """Deliver what is left, for so long at most; whether all was delivered."""
        self._deadline = time.monotonic() + timeout_s
        self._outbox.close()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return self.pending == 0

    # The courier's thread

    def _run(self) -> None:
        pause = _FIRST_PAUSE_S
        while self._outbox.wait_for_parcel() and time.monotonic() < self._deadline:
            self._outbox.wait_for_close(_LINGER_S)
            if self._tried(self._deliver_all):
                pause = _FIRST_PAUSE_S
                self._complained = False
            else:
                self._rest(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
        self._tried(self._leave)

    def _tried(self, action: Callable[[], None]) -> bool:
        """Whether it went well. If not, the next attempt starts from what it then finds."""
        try:
            action()
        except Exception as error:  # noqa: BLE001  whatever the store does, training goes on
            if not self._complained:
                _log.warning("%s", self._excuse(error))
                self._complained = True
            self._store = None
            return False
        return True

    def _rest(self, pause_s: float) -> None:
        self._outbox.wait_for_close(pause_s)
        if self._deadline < float("inf"):
            time.sleep(_CLOSING_PAUSE_S)

    def _deliver_all(self) -> None:
        if self._store is None:
            self._store = self._opened()
        while (taken := self._outbox.take()) is not None:
            key, parcel = taken
            try:
                self._store.deliver(key, parcel)
            except Exception:
                self._outbox.put_back(key)
                raise
            self._outbox.delivered()

    def _leave(self) -> None:
        if self._store is not None:
            self._store.leave()
