"""Names of a trial's objects: each attempt writes only below a prefix of its own, and the highest owns the trial."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.storage.store import Store
from search_spaces.errors import ScalesweepError, StorageError

CLAIM = "claim"
_FENCE = re.compile(r"g(\d{6,})-a(\d{6,})")


class FencedError(ScalesweepError):
    """A higher attempt has the trial."""


@dataclass(frozen=True, order=True)
class Fence:
    """One attempt under one start of a driver. A lost disk may repeat attempts, never generations."""

    generation: int
    attempt: int

    def __str__(self) -> str:
        return f"g{self.generation:06d}-a{self.attempt:06d}"


@dataclass(frozen=True, order=True)
class ObjectName:
    """An object below `trials/KEY/`: the fence of its writer, and its own name there."""

    fence: Fence
    name: str

    def __str__(self) -> str:
        return f"{self.fence}/{self.name}"


def trial_prefix(key: str) -> str:
    """Where a trial's objects are."""
    return f"trials/{key}/"


def objects_of(store: Store, key: str) -> list[ObjectName]:
    """The trial's objects, lowest fence first; what else lies there is left out. Raises StorageError."""
    found, prefix = [], trial_prefix(key)
    for name in store.names(prefix):
        folder, _, rest = name.removeprefix(prefix).partition("/")
        if (match := _FENCE.fullmatch(folder)) and rest:
            found.append(ObjectName(Fence(int(match[1]), int(match[2])), rest))
    return sorted(found)


def claim(store: Store, key: str, fence: Fence) -> None:
    """Own the trial: lower attempts stop at their next snapshot. Raises FencedError, StorageError."""
    _refuse_if_lower(fence, key, objects_of(store, key))
    store.put(f"{trial_prefix(key)}{ObjectName(fence, CLAIM)}", b"")


def refuse_if_fenced(store: Store, key: str, fence: Fence) -> None:
    """Raises FencedError where a higher attempt was claimed, StorageError where ours is not there any more.

    A shared folder that is not mounted now looks like an empty one: nothing may be written there.
    """
    names = objects_of(store, key)
    _refuse_if_lower(fence, key, names)
    if ObjectName(fence, CLAIM) not in names:
        raise StorageError(f"storage {store.address} has lost attempt {fence} of trial {key}: is it mounted?")


def _refuse_if_lower(fence: Fence, key: str, names: Sequence[ObjectName]) -> None:
    highest = max((name.fence for name in names), default=fence)
    if highest > fence:
        raise FencedError(f"attempt {highest} has taken trial {key} over from {fence}")
