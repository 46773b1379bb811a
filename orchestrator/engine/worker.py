"""What runs in a worker's process. Light to import: the trainer brings what is heavy."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

from orchestrator.engine.slot import Slot, drain
from orchestrator.masking import mask_logs
from orchestrator.ports import Assignment, PoolEvent, Resources, TrainerRef

GPU_FRACTION_VARIABLE = "SCALESWEEP_GPU_FRACTION"

# Numbers of glibc's mallopt (malloc.h). Large blocks are kept and used again: handing every tensor back to
# the kernel costs page faults, about a tenth of a small model's training time.
_MALLOC = {
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: never give memory back, bytes
    -2: 64 * 2**20,  # M_TOP_PAD: grow by so much, bytes
    -3: 32 * 2**20,  # M_MMAP_THRESHOLD: the largest that glibc takes, bytes
    -8: 1,  # M_ARENA_MAX: other arenas cannot grow like that
}


_LOOK_EVERY_S = 0.25  # how often a poll looks whether the process is to go
# How long an attempt may take to hand over after SIGTERM, and then the driver to fetch its last events, seconds.
# Whoever sends SIGTERM sends SIGKILL after a grace of their own (Kubernetes 30 s, Slurm 30 s); these are guesses.
_HAND_OVER_S, _FETCH_S = 120.0, 5.0


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a poll brings: events, and whether the worker's process is about to end."""

    events: tuple[PoolEvent, ...]
    leaving: bool


class Worker:
    """One slot behind a process boundary. Calls other than `poll` and `ready` return at once.

    SIGTERM lets the running attempt hand over; the process ends when that is done.
    """

    def __init__(self, trainer: TrainerRef, folder: Path, shape: Resources) -> None:
        _prepare_process(shape)
        mask_logs()
        if folder.is_dir():  # relative paths in a trainer's options mean the same as on the driver
            os.chdir(folder)
        self._events: SimpleQueue[PoolEvent] = SimpleQueue()
        self._slot = Slot(trainer, folder, self._events)
        self._leaving = self._told = False
        _on_sigterm(self._leave)

    def ready(self) -> None:
        """Return when the trainer is warm. Raises what building it raised."""
        self._slot.wait_ready()

    def begin(self, assignment: Assignment) -> None:
        """Start an attempt."""
        self._slot.begin(assignment)

    def poll(self, timeout_s: float) -> Heard:
        """Events since the last poll, as soon as there are any; empty after the time-out."""
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = deadline - time.monotonic()
            events = drain(self._events, min(left_s, _LOOK_EVERY_S))
            leaving = self._leaving  # after the events: it is set before an attempt hands over
            if events or left_s <= 0 or leaving > self._told:
                self._told = leaving
                return Heard(events=tuple(events), leaving=leaving)

    def ask_to_leave(self, key: str) -> None:
        """Let the trial's attempt pause."""
        self._slot.ask_to_leave(key)

    def _leave(self) -> None:
        """Hand over and end the process; the driver ends it earlier if it is there."""
        self._leaving = True
        self._slot.preempt()
        deadline = time.monotonic() + _HAND_OVER_S
        while not self._slot.idle and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
        time.sleep(_FETCH_S)
        os._exit(0)


def _on_sigterm(leave: Callable[[], None]) -> None:
    """Call it in a thread of its own at the first SIGTERM, in the place of Ray's handler, which ends the process.

    Ray makes actors in the main thread, where alone a handler can be set (ray 2.60). The handler only writes to a
    pipe: it may interrupt whatever holds a lock.
    """
    reader, writer = os.pipe()

    def wait() -> None:
        os.read(reader, 1)
        leave()

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal wants it
        os.write(writer, b"!")

    threading.Thread(target=wait, name="scalesweep-sigterm", daemon=True).start()
    signal.signal(signal.SIGTERM, handle)


def _prepare_process(shape: Resources) -> None:
    """Threads, GPUs and memory of this process, before anything heavy is imported."""
    threads = str(max(1, int(shape.cpus)))
    os.environ.update(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
    os.environ[GPU_FRACTION_VARIABLE] = f"{shape.gpus:g}"
    if shape.gpus == 0:  # Ray leaves them visible, and every process would open a context there
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl and macOS do not
    for number, value in _MALLOC.items():
        if mallopt is not None:
            mallopt(number, value)
