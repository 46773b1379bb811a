"""What people ask of a sweep's driver from another host: objects that it looks for.

A request waits for a driver, be it one that is starting or the next one. `pause` is for the driver that sees it, and
is removed then, so that the same command goes on after it; `stop` is for good, and stays.
"""

from __future__ import annotations

from orchestrator.storage.store import Store

_REQUESTS = "requests/"
PAUSE = "pause"


def request(store: Store, what: str) -> None:
    """Ask the driver that uses this storage to `pause` or `stop`. Raises StorageError."""
    store.put(f"{_REQUESTS}{what}", b"")


def asked(store: Store) -> frozenset[str]:
    """What is asked for now. Raises StorageError."""
    return frozenset(name.removeprefix(_REQUESTS) for name in store.names(_REQUESTS))


def forget_pause(store: Store) -> None:
    """A driver pauses: the next one need not. Raises StorageError."""
    store.remove([f"{_REQUESTS}{PAUSE}"])
