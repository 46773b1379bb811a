"""Makes a run folder again from the driver's copy of its record in storage."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from orchestrator import ledger
from orchestrator.files import write_atomically
from orchestrator.storage.record import LEDGER, belongs
from orchestrator.storage.sealed import DamagedError
from orchestrator.storage.segments import DRIVER, Chain, Part, SegmentName, decode, segment_names
from orchestrator.storage.store import Store
from search_spaces.errors import RunFolderError

logger = logging.getLogger(__name__)

_RESTORING = ".restoring"  # below the run folder, until all of it is there


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What came out of storage: how many events, and how many segments came after a damaged or lost one."""

    events: int
    segments_lost: int


def restore(store: Store, folder: Path) -> Restored | None:
    """Write the newest record that is whole into an empty folder; None where storage has none.

    Raises RunFolderError, naming the object, where all that there is has a damaged beginning; StorageError.
    """
    names = segment_names(store.names(DRIVER))
    damage: list[str] = []
    for chain in sorted({name.chain for name in names}, reverse=True):
        written = _write_chain(store, chain, folder, damage)
        if written:
            _drop_unknown_attempts(folder)
            events = len(ledger.read(folder).events) if (folder / LEDGER).exists() else 0
            longest = 1 + max(name.number for name in names if name.chain == chain)
            return Restored(events=events, segments_lost=longest - written)
    if damage:
        raise RunFolderError(
            f"storage {store.address} has no whole record of the sweep: {'; '.join(damage)}; put these objects back "
            "from a copy, or choose another storage to begin anew"
        )
    return None


def reconcile(store: Store, folder: Path, check: Callable[[Path], None]) -> Restored | None:
    """Bring a run folder up to what storage has; None where it has everything already.

    The folder must be the caller's alone. `check` may refuse what was restored, in a folder of its own. Raises
    RunFolderError where the two continue one sweep differently, or are two sweeps.
    """
    place = folder / _RESTORING
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        restored = restore(store, place)
        if restored is None:
            return None
        check(place)
        if not _is_newer(place, folder, store):
            return None
        # The ledger last: until then this may be begun again.
        for path in sorted(place.rglob("*"), key=lambda path: path.name == LEDGER):
            if path.is_file():
                target = folder / path.relative_to(place)
                target.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(target, path.read_bytes())
        return restored
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _write_chain(store: Store, chain: Chain, folder: Path, damage: list[str]) -> int:
    """How many segments of the chain could be written into the folder, from its first on; what stopped it is added."""
    number = 0
    while True:
        name = SegmentName(chain, number)
        try:
            parts = decode(store.get(str(name)), name=name).parts
            for part in parts:
                _check(part, folder)
        except FileNotFoundError:
            damage += [] if number else [f"{name} is missing"]
            return number
        except DamagedError as error:
            logger.warning("storage %s: %s is damaged: %s", store.address, name, error)
            damage.append(f"{name} is damaged: {error}")
            return number
        for part in parts:
            _write(part, folder)
        number += 1


def _check(part: Part, folder: Path) -> None:
    path = folder / part.path
    if not belongs(part.path):
        raise DamagedError(f"it holds {part.path!r}, which is no part of a sweep's record")
    if part.offset and (not path.exists() or path.stat().st_size != part.offset):
        raise DamagedError(f"its part of {part.path} does not follow what was before")


def _write(part: Part, folder: Path) -> None:
    path = folder / part.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab" if part.offset else "wb") as file:
        file.write(part.data)


def _drop_unknown_attempts(folder: Path) -> None:
    """Points of attempts of which the ledger has not heard yet: the numbers will be given again."""
    if not (folder / LEDGER).exists():
        return
    trials = ledger.read(folder).trials
    for path in folder.glob("trials/*/curve.jsonl"):
        trial = trials.get(path.parent.name)
        lines = path.read_bytes().splitlines(keepends=True)
        known = [line for line in lines if trial is not None and _attempt(line) <= trial.attempt]
        if len(known) < len(lines):
            path.write_bytes(b"".join(known))


def _attempt(line: bytes) -> int:
    """Whose point it is; 0 for a damaged line, which is refused by its number when the curve is read."""
    try:
        return int(json.loads(line)["attempt"])
    except (ValueError, KeyError, TypeError):
        return 0


def _is_newer(restored: Path, folder: Path, store: Store) -> bool:
    """Whether the restored ledger goes on where the folder's ends. Raises RunFolderError where they differ before."""
    theirs, ours = _ledger(restored), _ledger(folder)
    if ours.startswith(theirs):
        return False
    if theirs.startswith(_without_last_starts(ours)):
        return True
    mine, others = ours.splitlines(), theirs.splitlines()
    agreed = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(mine, others, strict=False)))
    raise RunFolderError(
        f"{folder} and storage {store.address} hold different records: {agreed} events are the same, then the folder "
        f"has {len(mine) - agreed} others and storage {len(others) - agreed}; to go on from storage, give another "
        "folder with --dir (or move this one away); to go on from the folder, give another storage"
    )


def _without_last_starts(content: bytes) -> bytes:
    """A ledger without the starts of drivers at its end that recorded nothing: storage may have refused them."""
    lines = content.splitlines(keepends=True)
    while lines and ledger.is_start(lines[-1]):
        lines.pop()
    return b"".join(lines)


def _ledger(folder: Path) -> bytes:
    """The whole lines of a folder's ledger."""
    try:
        content = (folder / LEDGER).read_bytes()
    except FileNotFoundError:
        return b""
    return content[: content.rfind(b"\n") + 1]
