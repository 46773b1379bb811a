"""The worker pool's contract in this process, with threads: for debugging, and for tests without Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue

from orchestrator.engine.nodes import NodeSize, check_fits
from orchestrator.engine.slot import Slot, drain
from orchestrator.ports import Assignment, AttemptEnded, PoolEvent, Resources, TrainerRef

_CLOSE_S = 5.0  # how long close waits for each running attempt to write its checkpoint


class LocalPool:
    """Runs each trial in one of `slots` threads; what an attempt occupies beyond its thread is not counted."""

    def __init__(self, *, trainer: TrainerRef, slots: int = 1) -> None:
        self._trainer = trainer
        self._count = slots
        self._events: SimpleQueue[PoolEvent] = SimpleQueue()
        self._slots: list[Slot] = []
        self._running: dict[str, Slot] = {}

    def start(self) -> None:
        """Build and warm a trainer in every thread. Raises InputError where that cannot be done."""
        self._slots = [Slot(self._trainer, Path.cwd(), self._events) for _ in range(self._count)]
        for slot in self._slots:
            slot.wait_ready()

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
        number = next(i for i, slot in enumerate(self._slots) if slot not in self._running.values())
        self._running[assignment.spec.key] = self._slots[number]
        self._slots[number].begin(assignment)
        return f"thread-{number}"

    def wait(self, timeout_s: float) -> Sequence[PoolEvent]:
        """What happened, at once if something has; empty after the time-out."""
        events = drain(self._events, timeout_s)
        for event in events:
            if isinstance(event, AttemptEnded):
                self._running.pop(event.key, None)
        return events

    def ask_to_leave(self, key: str) -> None:
        """Let the trial's attempt write a checkpoint and end as paused."""
        if key in self._running:
            self._running[key].ask_to_leave(key)

    def close(self) -> None:
        """Let running attempts pause, and end the threads."""
        for slot in self._slots:
            slot.close(_CLOSE_S)
        self._slots, self._running = [], {}
