"""What waits to be delivered to a store, by key: a place where two threads meet."""

from __future__ import annotations

import threading
from typing import Generic, Protocol, Self, TypeVar


class Parcel(Protocol):
    """What one key has not got yet."""

    @property
    def calls(self) -> int:
        """How many calls brought it."""

    def followed_by(self, later: Self) -> Self:
        """Both in one."""


P = TypeVar("P", bound=Parcel)


class Outbox(Generic[P]):
    """Parcels by key, oldest first. One thread puts, another takes, delivers, and says how it went."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # Guarded by _changed: all that follows.
        self._parcels: dict[str, P] = {}
        self._taken: P | None = None
        self._closed = False

    def put(self, key: str, parcel: P) -> None:
        """Add to what waits for the key."""
        with self._changed:
            waiting = self._parcels.get(key)
            self._parcels[key] = waiting.followed_by(parcel) if waiting else parcel
            self._changed.notify_all()

    def take(self) -> tuple[str, P] | None:
        """The key that has waited longest, and all that waits for it; None where nothing does."""
        with self._changed:
            key = next(iter(self._parcels), None)
            if key is None:
                return None
            self._taken = self._parcels.pop(key)
            return key, self._taken

    def delivered(self) -> None:
        """What was taken last has arrived."""
        with self._changed:
            self._taken = None

    def put_back(self, key: str) -> None:
        """What was taken last has not arrived. It goes to the end, so as not to hold up the others."""
        with self._changed:
            if self._taken is not None:
                later = self._parcels.pop(key, None)
                self._parcels[key] = self._taken.followed_by(later) if later else self._taken
                self._taken = None

    @property
    def pending(self) -> int:
        """Calls not delivered yet."""
        with self._changed:
            return sum(parcel.calls for parcel in self._parcels.values()) + (self._taken.calls if self._taken else 0)

    def close(self) -> None:
        """No more will come: those who wait go on at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_for_parcel(self) -> bool:
        """Until something waits; False where nothing does and nothing will come any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._parcels or self._closed)
            return bool(self._parcels)

    def wait_for_close(self, timeout_s: float) -> None:
        """Until the outbox is closed, for so long at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, timeout_s)
