"""The one durable record of a sweep: append-only JSON lines, each fsynced before it is acted on.

Each line carries a checksum. At start the file is replayed; a torn last line (the driver died while
writing it, so nothing was done about it) is dropped, any other damage is refused with its number.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from orchestrator.files import append
from orchestrator.trial import Reason, Trial, TrialState
from search_spaces.errors import RunFolderError, ScalesweepError
from search_spaces.space import HyperParameters
from trainers.api import Cause, TrialResult
from trainers.checked_lines import decode, encode
from trainers.masking import masked

_LOCK_AGAIN_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A driver took the run folder. `time` is seconds since 1970, here and below."""

    time: float
    sweep: str
    sweep_id: str  # tells this run folder from every other, in MLflow too
    plan: str  # fingerprint
    trainer_version: str
    software: str
    slots: int


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """A trial was decided on."""

    time: float
    key: str
    number: int
    scale: str
    tokens: int
    settings: HyperParameters
    seed: int
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class Started:
    """An attempt went to a worker. The highest attempt owns the trial."""

    time: float
    key: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Ended:
    """An attempt ended. `state` is what became of the trial: waiting means that it is started again."""

    time: float
    key: str
    attempt: int
    state: TrialState
    result: TrialResult | None = None
    cause: Cause | None = None
    message: str = ""
    worker: str = ""


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """The laws of the smaller scales said this about a cell, before its first trial."""

    time: float
    scale: str
    tokens: int
    runs_used: int
    prediction: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A search gets no further trials, since they would tell next to nothing."""

    time: float
    scale: str
    tokens: int
    why: str


@dataclass(frozen=True, kw_only=True)
class Closed:
    """The sweep is over: `done`, or `stopped` for good by its user."""

    time: float
    how: str
    message: str = ""


Event = Opened | Proposed | Started | Ended | Predicted | Settled | Closed
_KINDS: Mapping[str, type[Event]] = {
    kind.__name__.lower(): kind for kind in (Opened, Proposed, Started, Ended, Predicted, Settled, Closed)
}


@dataclass
class History:
    """What the events add up to. Changed only by `apply`."""

    events: list[Event] = field(default_factory=list)
    trials: dict[str, Trial] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        """Take in the next event."""
        self.events.append(event)
        match event:
            case Proposed():
                self.trials[event.key] = _trial_of(event)
            case Started():
                self.trials[event.key] = _started(self.trials[event.key], event)
            case Ended():
                trial = self.trials[event.key]
                if event.attempt == trial.attempt:  # an older attempt's end changes nothing
                    self.trials[event.key] = _ended(trial, event)
            case _:
                pass

    def of(self, kind: type[Event]) -> list[Any]:
        """The events of one kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def first_opened(self) -> Opened | None:
        """How the run folder began."""
        return next(iter(self.of(Opened)), None)


def _trial_of(event: Proposed) -> Trial:
    fields = dataclasses.asdict(event) | {"settings": event.settings}
    return Trial(proposed_at=fields.pop("time"), **fields)


def _started(trial: Trial, event: Started) -> Trial:
    running = replace_state(trial, TrialState.RUNNING)
    return dataclasses.replace(
        running,
        attempt=event.attempt,
        started_at=trial.started_at if trial.started_at is not None else event.time,
    )


def replace_state(trial: Trial, state: TrialState) -> Trial:
    """The trial in that state, if it is not there already (a driver died before it could say so)."""
    return trial if trial.state is state else trial.moved(state)


def _ended(trial: Trial, event: Ended) -> Trial:
    failures = dict(trial.failures)
    if event.cause is not None:
        failures[event.cause] = failures.get(event.cause, 0) + 1
    moved = replace_state(trial, event.state)
    return dataclasses.replace(
        moved,
        failures=failures,
        cause=event.cause,
        message=event.message,
        worker=event.worker,
        result=event.result,
        ended_at=event.time if event.state.ended else None,
    )


class Ledger:
    """The ledger of one run folder, owned by one driver at a time.

    Use `Ledger.open`; `history` is always what the file says. Another process may read the file at any
    time with `read`.
    """

    def __init__(self, path: Path, history: History, lock: int) -> None:
        self.path = path
        self.history = history
        self._lock = lock

    @classmethod
    def open(cls, folder: Path, restore: Callable[[], None] = lambda: None) -> Self:
        """Take the run folder's ledger, making both if need be. `restore` may bring the folder up to date before.

        Raises RunFolderError where another driver has it, it cannot be written, or a line inside is damaged.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _lock(folder)
        except OSError as error:
            raise RunFolderError(
                f"run folder {folder} cannot be written ({error.strerror}); choose another one with --dir"
            ) from error
        path = folder / "ledger.jsonl"
        try:
            restore()
            whole, history = _replay(path)
            if path.exists() and path.stat().st_size > whole:
                os.truncate(path, whole)
            return cls(path, history, lock)
        except BaseException:
            os.close(lock)
            raise

    def append(self, event: Event) -> None:
        """Write the event, and only then count it.

        Raises OSError, with the file as it was before, where the disk is full.
        """
        event = _without_secrets(event)
        append(self.path, _encode(event))
        self.history.apply(event)

    def close(self) -> None:
        """Give the run folder back."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read(folder: Path) -> History:
    """What a run folder's ledger says now, without taking it.

    Raises RunFolderError where there is none or a line inside is damaged.
    """
    path = folder / "ledger.jsonl"
    if not path.exists():
        raise RunFolderError(f"{folder} is not a run folder: it has no ledger.jsonl; give the folder of a sweep")
    return _replay(path)[1]


def in_use(folder: Path) -> bool:
    """Whether a driver has the run folder now."""
    try:
        handle = os.open(folder / "driver.lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)


def is_start(line: bytes) -> bool:
    """Whether a ledger's line is the start of a driver."""
    try:
        return isinstance(_decode(line), Opened)
    except (ValueError, KeyError, TypeError, ScalesweepError):
        return False


def _lock(folder: Path) -> int:
    handle = os.open(folder / "driver.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _flock(handle)
    except BlockingIOError as error:
        owner = os.read(handle, 64).decode(errors="replace").strip()
        os.close(handle)
        raise RunFolderError(
            f"{folder} is in use by another driver (process {owner or 'unknown'}); "
            "wait for it, pause it with `scalesweep pause`, or choose another folder with --dir"
        ) from error
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return handle


def _flock(handle: int) -> None:
    """Tries twice: a `status` holds it for the moment in which it looks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(_LOCK_AGAIN_S)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _replay(path: Path) -> tuple[int, History]:
    """How many bytes are whole lines, and what they say."""
    history = History()
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            history.apply(_decode(line))
        except (ValueError, KeyError, TypeError, ScalesweepError) as error:
            raise RunFolderError(
                f"{path}: line {number} is damaged ({error}); restore the file from a copy, "
                f"or cut it before line {number} to go on from there"
            ) from error
    return whole, history


def _without_secrets(event: Event) -> Event:
    """Messages hold tracebacks and whatever a user's program printed last."""
    return dataclasses.replace(event, message=masked(event.message)) if isinstance(event, Ended | Closed) else event


def _encode(event: Event) -> bytes:
    return encode({"event": type(event).__name__.lower()} | dataclasses.asdict(event))


def _decode(line: bytes) -> Event:
    body = decode(line)
    kind = _KINDS[body.pop("event")]
    return kind(**_typed(body))


def _typed(body: dict[str, Any]) -> dict[str, Any]:
    makers: Iterable[tuple[str, Any]] = (
        ("settings", lambda value: HyperParameters(**value)),
        ("reason", Reason),
        ("state", TrialState),
        ("cause", Cause),
        ("result", lambda value: TrialResult(**value)),
    )
    for name, make in makers:
        if body.get(name) is not None:
            body[name] = make(body[name])
    return body
