"""The driver's side of storage: a record restored from it before the ledger is read, and copied to it after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.config import SweepFile
from orchestrator.ports import StorageRef
from orchestrator.runfolder import RunFolder
from orchestrator.storage.recorder import Pace, Recorder
from orchestrator.storage.restore import reconcile
from orchestrator.storage.sign import Sign, await_silence
from orchestrator.storage.store import Store
from search_spaces.errors import RunFolderError


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What a running sweep has of its storage; nothing, where it has none."""

    ref: StorageRef | None = None
    check: Callable[[], None] = lambda: None  # raises RunFolderError once another driver has the sweep
    requested: Callable[[str], bool] = lambda _: False  # `pause` or `stop`, asked for in storage


@contextmanager
def recording(
    store: Store | None,
    folder: Path,
    sweep_id: str,
    pace: Pace = Pace(),  # noqa: B008 - frozen
) -> Iterator[Recording]:
    """Copies the run folder's record to storage for as long as the block lasts; see Recorder."""
    if store is None:
        yield Recording()
        return
    with Recorder(store, folder, pace) as recorder:
        ref = StorageRef(url=store.address, sweep_id=sweep_id, generation=recorder.generation)
        yield Recording(ref=ref, check=recorder.check, requested=recorder.requested)


def restored(store: Store | None, folder: Path, sweep: SweepFile, say: Callable[[str], None]) -> Sign | None:
    """Bring a run folder, which must be the caller's alone, up to what storage has, and say so.

    Returns the last driver's last sign of life before that.

    Raises RunFolderError where storage has another sweep's record, or one that contradicts the folder's, or another
    driver is at work on it.
    """
    if store is None:
        return None
    sign = await_silence(store, folder, say)
    if (found := reconcile(store, folder, lambda place: _check(store, place, sweep))) is None:
        return sign
    say(
        f"{folder}: {found.events} events were restored from storage {store.address}; the last seconds before it was "
        "lost may be missing: trials that ended then go on from their snapshots, or are trained again"
    )
    if found.segments_lost:
        say(f"{found.segments_lost} pieces of the record came after a damaged one, and are lost")
    return sign


def _check(store: Store, place: Path, sweep: SweepFile) -> None:
    differing = RunFolder(place).differing(sweep)
    if differing:
        raise RunFolderError(
            f"storage {store.address} holds a sweep with another {', '.join(differing)}; choose another storage, or "
            "give the sweep file as it was"
        )
