"""The folder that an attempt trains in: the trial's own, or one on the worker's disk with snapshots in storage."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.ports import Assignment, StorageRef
from orchestrator.storage.fence import Fence, FencedError, claim, refuse_if_fenced
from orchestrator.storage.patience import persistently
from orchestrator.storage.pull import pull
from orchestrator.storage.push import Pusher, UnsettledError
from orchestrator.storage.scratch import scratch
from orchestrator.storage.segments import DRIVER, claims_of
from orchestrator.storage.store import Store, open_store
from search_spaces.errors import InputError, StorageError, TrialError
from trainers.api import Cause, TrialFailed
from trainers.spool import POINTS_FILE, disk_is_full

logger = logging.getLogger(__name__)

# Looks that may find a file changing before it is said that there are no snapshots: a minute.
_UNSETTLED_LOOKS = 12
# Looks at the end, and seconds between them.
_LAST_LOOKS, _LAST_LOOK_WAIT_S = 3, 0.5


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often a snapshot is made, and how long an attempt's start and end wait for storage. Seconds; guesses."""

    every_s: float = 5.0
    patience_s: float = 120.0  # then the sweep hears of it, and tries again by itself
    leaving_patience_s: float = 10.0  # of an attempt that was asked to leave: its node may be about to go


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where to train. `start` rises with every start of the trial, even where the ledger lost some."""

    folder: Path
    start: int
    should_stop: Callable[[], bool]


@contextmanager
def attempt_workspace(
    assignment: Assignment, asked_to_leave: Callable[[], bool], pace: Pace = Pace()
) -> Iterator[Workspace]:
    """The attempt's workspace, with what earlier attempts left in it.

    With storage: what stands in it when the block ends is in storage before this returns, of a trial that
    has ended only its points, and those only if the storage answers. Raises TrialFailed: the disk is full, the
    storage does not answer, or a higher attempt has the trial.
    """
    if assignment.storage is None:
        yield Workspace(folder=assignment.workspace, start=assignment.attempt, should_stop=asked_to_leave)
        return
    with _failures(), _stored(assignment, assignment.storage, asked_to_leave, pace) as workspace:
        yield workspace


@contextmanager
def _failures() -> Iterator[None]:
    """Turns what goes wrong between the disk and the storage into TrialFailed."""
    try:
        yield
    except FencedError as error:
        raise TrialFailed(Cause.WORKER_LOST, str(error)) from error
    except InputError as error:
        raise TrialFailed(Cause.USER_ERROR, str(error)) from error
    except (StorageError, OSError) as error:
        raise TrialFailed(_cause(error), f"{error}; the trial goes on from its last snapshot") from error


def _cause(error: StorageError | OSError) -> Cause:
    if disk_is_full(error):
        return Cause.DISK_FULL
    return Cause.STORAGE_UNREACHABLE if isinstance(error, StorageError) else Cause.WORKER_LOST  # by its node's disk


@contextmanager
def _stored(
    assignment: Assignment, storage: StorageRef, asked_to_leave: Callable[[], bool], pace: Pace
) -> Iterator[Workspace]:
    key, fence = assignment.spec.key, Fence(storage.generation, assignment.attempt)
    store, timeout_s = open_store(storage.url), assignment.resources.timeout_s
    ends_at = None if timeout_s is None else time.monotonic() + timeout_s
    patience_s = _Patience(pace=pace, asked_to_leave=asked_to_leave, ends_at=ends_at)
    with scratch(storage.sweep_id, f"{key}-{fence}") as folder:
        pusher = persistently(lambda: _begin(store, key, fence, folder), patience_s)
        pushing = _PushThread(pusher, key, pace.every_s)
        try:
            yield Workspace(folder=folder, start=pusher.start, should_stop=lambda: asked_to_leave() or pushing.fenced)
        except TrialError:
            _leave(pushing, pusher, patience_s)
            raise
        finally:
            pushing.stop()
        _leave_points(pushing, pusher, patience_s)


@dataclass(frozen=True, kw_only=True)
class _Patience:
    """How long storage is waited for, in seconds: so that no attempt's own time-out passes meanwhile."""

    pace: Pace
    asked_to_leave: Callable[[], bool]
    ends_at: float | None  # monotonic seconds

    def for_a_push(self) -> float:
        """That is under way: a large snapshot takes its time, whoever is to leave."""
        return self._at_most(self.pace.patience_s)

    def __call__(self) -> float:
        """While the storage does not answer."""
        return self._at_most(self.pace.leaving_patience_s if self.asked_to_leave() else self.pace.patience_s)

    def _at_most(self, longest_s: float) -> float:
        if self.ends_at is None:
            return longest_s
        return max(0.0, min(longest_s, (self.ends_at - time.monotonic()) / 2))


def _begin(store: Store, key: str, fence: Fence, folder: Path) -> Pusher:
    """Claim first: an older attempt that still runs then removes nothing that is read here.

    What is pulled counts only if the storage was there before, and still is after: see refuse_if_fenced.
    """
    _refuse_if_absent(store, fence.generation)
    claim(store, key, fence)
    pulled = pull(store, key, fence, folder)
    refuse_if_fenced(store, key, fence)
    return Pusher(store, key, fence, folder, pulled)


def _refuse_if_absent(store: Store, generation: int) -> None:
    """Raises StorageError where the driver that started this attempt has left no claim."""
    claims = claims_of(store.names(DRIVER))
    if max((claimed for _, claimed in claims), default=0) < generation:
        raise StorageError(f"storage {store.address} has nothing of this sweep's driver: is it mounted?")


def _leave_points(pushing: _PushThread, pusher: Pusher, patience_s: _Patience) -> None:
    """Push the points of a trial that has ended. The driver has them: without storage it has ended, too."""
    try:
        pushing.end(patience_s.for_a_push())
        persistently(lambda: pusher.push(POINTS_FILE.__eq__, kept=1), patience_s)
    except (StorageError, OSError) as error:
        logger.warning("a trial has ended, and storage keeps its last snapshot instead of its points: %s", error)


def _leave(pushing: _PushThread, pusher: Pusher, patience_s: _Patience) -> None:
    """Push what an attempt leaves that did not complete. It stays what it is, paused or failed, if that cannot be."""
    try:
        pushing.end(patience_s.for_a_push())
        persistently(lambda: _push_settled(pusher), patience_s)
    except (StorageError, OSError) as error:
        logger.warning("no last snapshot, the trial goes on from the one before: %s", error)


def _push_settled(pusher: Pusher) -> None:
    """Push when the files have come to rest; what the trainer left running may keep them from it."""
    for _ in range(_LAST_LOOKS):
        try:
            pusher.push()
        except UnsettledError as error:
            unsettled = error
            time.sleep(_LAST_LOOK_WAIT_S)
        else:
            return
    logger.warning("no last snapshot: %s after the attempt ended", unsettled)


class _PushThread:
    """Pushes snapshots in a thread, and never ends a trial but by `fenced`."""

    def __init__(self, pusher: Pusher, key: str, every_s: float) -> None:
        self._pusher, self._key, self._every_s = pusher, key, every_s
        self._over = threading.Event()
        self._silent = False
        self._unsettled = 0
        self.fenced = False
        self._thread = threading.Thread(target=self._run, name="scalesweep-snapshots", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Begin no further push."""
        self._over.set()

    def end(self, timeout_s: float) -> None:
        """Return when no push is under way. Raises StorageError where one does not end."""
        self.stop()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise StorageError(f"a snapshot of trial {self._key} was not written within {timeout_s:g} s")

    def _run(self) -> None:
        while not self.fenced and not self._over.wait(self._every_s):
            self._push()

    def _push(self) -> None:
        try:
            self._pusher.push()
        except FencedError:
            self.fenced = True
        except UnsettledError as error:
            self._unsettled += 1
            if self._unsettled == _UNSETTLED_LOOKS:
                logger.warning("%s: no snapshot for a minute: %s", self._key, error)
        except (StorageError, OSError) as error:
            if not self._silent:
                logger.warning("%s: no snapshots for now, training goes on: %s", self._key, error)
            self._silent = True
        else:
            self._unsettled, self._silent = 0, False
