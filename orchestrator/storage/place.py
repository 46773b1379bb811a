"""A sweep by its run folder, or from another host by its storage."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.storage.address import is_url, storage_address
from orchestrator.storage.patience import in_background
from orchestrator.storage.record import LEDGER
from orchestrator.storage.requests import request
from orchestrator.storage.restore import restore
from orchestrator.storage.segments import DRIVER
from orchestrator.storage.store import Store, open_store
from search_spaces.errors import RunFolderError, StorageError

# How long a storage has to say what it holds. Seconds; a guess: clients that have to connect first take a second.
_PATIENCE_S = 15.0


def is_storage(place: str) -> bool:
    """Whether it is a URL, or a folder that a driver copies its record to."""
    return is_url(place) or ((Path(place) / DRIVER).is_dir() and not (Path(place) / LEDGER).exists())


def ask(storage: str, what: str) -> None:
    """Ask the driver that uses the storage to `pause` or `stop`. Raises RunFolderError where none has ever."""
    store = open_store(storage_address(storage))
    if not store.names(DRIVER):
        raise _no_sweep(store)
    request(store, what)


@contextmanager
def run_folder(place: str) -> Iterator[Path]:
    """The run folder, or a copy of the record in storage for as long as the block lasts.

    Raises RunFolderError where storage has none, StorageError, soon where it does not answer.
    """
    if not is_storage(place):
        yield Path(place)
        return
    store = open_store(storage_address(place))
    try:
        in_background(lambda: store.names(DRIVER)).result(_PATIENCE_S)
    except TimeoutError:
        raise StorageError(f"storage {store.address} did not answer within {_PATIENCE_S:g} s; try again") from None
    with tempfile.TemporaryDirectory(prefix="scalesweep-") as folder:
        if restore(store, Path(folder)) is None:
            raise _no_sweep(store)
        yield Path(folder)


def _no_sweep(store: Store) -> RunFolderError:
    return RunFolderError(
        f"storage {store.address} holds no sweep; give what stands as `storage` in its sweep file, "
        "or wait until its first driver has started"
    )
