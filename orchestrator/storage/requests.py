"""What people ask of a sweep's driver from another host: objects that it looks for."""

from __future__ import annotations

from orchestrator.storage.store import Store

REQUESTS = "requests/"


def request(store: Store, what: str) -> None:
    """Ask the driver that uses this storage to `pause` or `stop`. Raises StorageError."""
    store.put(f"{REQUESTS}{what}", b"")
