"""The worker pool's contract in this process, with threads: for debugging, and for tests without Ray."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from orchestrator.engine.nodes import NodeSize, check_fits
from orchestrator.engine.slot import TOO_LONG, Slot, drain
from orchestrator.ports import Assignment, AttemptEnded, Outcome, PoolEvent, Resources, TrainerRef
from trainers.api import Cause

_CLOSE_S = 5.0  # how long close waits for each running attempt to write its checkpoint


@dataclass(frozen=True, kw_only=True)
class _Run:
    """An attempt in a thread, and when it has taken too long (monotonic seconds)."""

    slot: Slot
    attempt: int
    ends_at: float | None


class LocalPool:
    """Runs each trial in one of `slots` threads; what an attempt occupies beyond its thread is not counted.

    A thread cannot be ended: one whose attempt takes too long is asked to leave, and another takes its place.
    """

    def __init__(self, *, trainer: TrainerRef, slots: int = 1) -> None:
        self._trainer = trainer
        self._count = slots
        self._events: SimpleQueue[PoolEvent] = SimpleQueue()
        self._slots: list[Slot] = []
        self._running: dict[str, _Run] = {}

    def start(self) -> None:
        """Build and warm a trainer in every thread. Raises InputError where that cannot be done."""
        for _ in range(self._count):
            slot = Slot(self._trainer, Path.cwd(), self._events)
            slot.wait_ready()  # one after another: transformers cannot be imported by two threads at once
            self._slots.append(slot)

    def check(self, resources: Mapping[str, Resources]) -> None:
        """Raises InputError naming the scale that wants more than this pool: a CPU for each slot, no GPU."""
        check_fits(resources, [NodeSize(cpus=float(self._count))])

    @property
    def slots(self) -> int:
        """How many trials run at once."""
        return self._count

    @property
    def busy(self) -> int:
        """How many attempts are running, or have an end that was not waited for yet."""
        return len(self._running)

    def has_room(self, resources: Resources) -> bool:
        """Whether a thread is idle."""
        return self.busy < len(self._slots)

    def submit(self, assignment: Assignment) -> str:
        """Start an attempt; returns the name of its thread."""
        taken = [run.slot for run in self._running.values()]
        number = next(i for i, slot in enumerate(self._slots) if slot not in taken)
        timeout_s = assignment.resources.timeout_s
        self._running[assignment.spec.key] = _Run(
            slot=self._slots[number],
            attempt=assignment.attempt,
            ends_at=None if timeout_s is None else time.monotonic() + timeout_s,
        )
        self._slots[number].begin(assignment)
        return f"thread-{number}"

    def wait(self, timeout_s: float) -> Sequence[PoolEvent]:
        """What happened, at once if something has; empty after the time-out."""
        late = self._too_late()
        events = [event for event in drain(self._events, 0 if late else timeout_s) if self._is_current(event)]
        for event in [*events, *late]:
            if isinstance(event, AttemptEnded):
                self._running.pop(event.key, None)
        return events + late

    def ask_to_leave(self, key: str) -> None:
        """Let the trial's attempt write a checkpoint and end as paused."""
        if key in self._running:
            self._running[key].slot.ask_to_leave(key)

    def close(self) -> None:
        """Let running attempts pause, and end the threads."""
        for slot in self._slots:
            slot.close(_CLOSE_S)
        self._slots, self._running = [], {}

    def _is_current(self, event: PoolEvent) -> bool:
        """Whether the event is of an attempt that runs: the thread of one that was given up may still speak."""
        return event.key in self._running and self._running[event.key].attempt == event.attempt

    def _too_late(self) -> list[PoolEvent]:
        """The ends of attempts that take longer than they may; other threads take the place of theirs."""
        ends: list[PoolEvent] = []
        for key, run in list(self._running.items()):
            if run.ends_at is None or time.monotonic() <= run.ends_at:
                continue
            run.slot.ask_to_leave(key)
            self._slots[self._slots.index(run.slot)] = Slot(self._trainer, Path.cwd(), self._events)
            del self._running[key]
            ends.append(
                AttemptEnded(
                    key=key,
                    attempt=run.attempt,
                    outcome=Outcome.FAILED,
                    cause=Cause.TIMED_OUT,
                    message=TOO_LONG,
                )
            )
        return ends
