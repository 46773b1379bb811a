"""What runs in a worker's process. Light to import: the trainer brings what is heavy."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

from orchestrator.engine.slot import Slot, drain
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


class Worker:
    """One slot behind a process boundary. Calls other than `poll` and `ready` return at once."""

    def __init__(self, trainer: TrainerRef, folder: Path, shape: Resources) -> None:
        _prepare_process(shape)
        if folder.is_dir():  # relative paths in a trainer's options mean the same as on the driver
            os.chdir(folder)
        self._events: SimpleQueue[PoolEvent] = SimpleQueue()
        self._slot = Slot(trainer, folder, self._events)

    def ready(self) -> None:
        """Return when the trainer is warm. Raises what building it raised."""
        self._slot.wait_ready()

    def begin(self, assignment: Assignment) -> None:
        """Start an attempt."""
        self._slot.begin(assignment)

    def poll(self, timeout_s: float) -> Sequence[PoolEvent]:
        """Events since the last poll, as soon as there are any; empty after the time-out."""
        return drain(self._events, timeout_s)

    def ask_to_leave(self, key: str) -> None:
        """Let the trial's attempt pause."""
        self._slot.ask_to_leave(key)


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
