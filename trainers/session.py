"""One attempt of one trial, from the worker's side: what becomes of the points, and how it ends."""

from __future__ import annotations

import errno
import math
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from search_spaces.errors import ScalesweepError, TrialError
from trainers.api import (
    Cause,
    CurvePoint,
    Trainer,
    TrialDiverged,
    TrialFailed,
    TrialPaused,
    TrialResult,
    TrialSpec,
)
from trainers.spool import Spool, disk_is_full
from trainers.user import UserTrainer

# Nats per token above the curve's first point. A guess: a perplexity seven times the start's is out of
# reach of noise, and of the bump that warmup leaves in a run that recovers.
DIVERGED_RISE = 2.0
# Told by name: no torch here.
_DEVICE_MEMORY_ERROR = "OutOfMemoryError"
# Other failures to allocate are plain RuntimeErrors with these words (torch 2.13, c10/core/impl/alloc_cpu.cpp).
_DEVICE_MEMORY_WORDS = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_HOST_MEMORY_WORDS = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")
# What CUDA says of a device that is broken or gone (cudaGetErrorString), not of a program that is wrong. The process
# can use it no more, and another one perhaps elsewhere.
_DEVICE_LOST_WORDS = (
    "uncorrectable ECC error",
    "uncorrectable NVLink error",
    "hardware stack error",
    "unspecified launch failure",
    "no CUDA-capable device is detected",
    "CUDA-capable device(s) is/are busy or unavailable",
)


class TrialSession:
    """The trainer's one line to the world outside; see trainers.api.Session.

    Every point goes to the trial's spool first, then to `deliver`. Points of earlier attempts are
    delivered again at the start, since whoever collected them may have died. `reached` is how far the collector has
    the curve. Raises TrialFailed where
    the workspace cannot be written or belongs to a newer attempt.
    """

    def __init__(
        self,
        *,
        spec: TrialSpec,
        attempt: int,
        workspace: Path,
        deliver: Callable[[tuple[CurvePoint, ...]], None],
        stop: Callable[[], bool],
        reached: int = 0,
    ) -> None:
        self._spec = spec
        self._attempt = attempt
        self._workspace = workspace
        self._deliver = deliver
        self._stop = stop
        self._reached = reached
        self._spool = Spool(workspace, attempt)
        self._points = dict(self._spool.history.points)
        self._repeated = self._spool.history.repeated_tokens
        self._began = time.monotonic()
        if earlier := _finite(self.curve):
            deliver(earlier)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    @property
    def attempt(self) -> int:
        """Number of this start of the trial."""
        return self._attempt

    @property
    def workspace(self) -> Path:
        """The trial's own folder, with what earlier attempts wrote."""
        return self._workspace

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """All points so far, earlier attempts' too, in the order of their tokens."""
        return tuple(self._points[tokens] for tokens in sorted(self._points))

    @property
    def tokens(self) -> int:
        """How far the curve goes."""
        return max(self._points, default=0)

    def emit(self, point: CurvePoint) -> None:
        """Record a point; one that an earlier attempt recorded alike keeps its time and is not sent again.

        Raises TrialDiverged where the loss says so, TrialFailed where the tokens pass the horizon, the disk is
        full, or a newer attempt has taken over.
        """
        self._check_tokens(point)
        known = self._points.get(point.tokens)
        if known is None or known.loss != point.loss:
            self._spool.point(point)
            self._points[point.tokens] = point
            if math.isfinite(point.loss):
                self._deliver((point,))
        self.check_divergence()

    def should_stop(self) -> bool:
        """Whether the trial was asked to leave."""
        return self._stop()

    def resumed_at(self, tokens: int) -> None:
        """Count what earlier attempts are known to have trained beyond `tokens` as repeated."""
        lost = max(self.tokens, self._reached) - tokens
        if lost > 0:
            self._spool.repeated(lost)
            self._repeated += lost

    def check_divergence(self) -> None:
        """Raises TrialDiverged where a loss is not finite or far above the curve's first one."""
        curve = self.curve
        for point in curve:
            if not math.isfinite(point.loss):
                raise TrialDiverged(f"loss is {point.loss} at {point.tokens:,} tokens")
            if point.loss > curve[0].loss + DIVERGED_RISE:
                raise TrialDiverged(
                    f"loss is {point.loss:.4g} at {point.tokens:,} tokens, from {curve[0].loss:.4g} at the first point"
                )

    def result(self, diverged: str | None = None) -> TrialResult:
        """What the curve says; `diverged` is the reason of a trial that did."""
        finite = _finite(self.curve)
        seconds = self._spool.history.seconds + time.monotonic() - self._began
        return TrialResult(
            final_loss=finite[-1].loss if finite else None,
            diverged=diverged is not None,
            tokens=self.tokens,
            seconds=seconds,
            tokens_per_second=_rate(finite) or (self.tokens / seconds if seconds > 0 else None),
            repeated_tokens=self._repeated,
            message=diverged or "",
        )

    def _check_tokens(self, point: CurvePoint) -> None:
        if not 0 < point.tokens <= self._spec.tokens:
            raise TrialFailed(
                Cause.USER_ERROR,
                f"a point at {point.tokens:,} tokens; the trial goes from 1 to its horizon of {self._spec.tokens:,}",
            )


def run_trial(trainer: Trainer, spec: TrialSpec, session: TrialSession) -> TrialResult:
    """Train, unless an earlier attempt's curve already ends the trial.

    Raises TrialPaused or TrialFailed and nothing else: whatever the trainer raises gets a cause.
    """
    try:
        session.check_divergence()
        if session.tokens < spec.tokens:
            trainer.train(spec, session)
    except TrialDiverged as diverged:
        return session.result(diverged=str(diverged))
    except (TrialFailed, TrialPaused):
        raise
    except (Exception, SystemExit) as error:
        raise _failure(error, trainer) from error
    if session.tokens < spec.tokens:
        raise _unfinished(trainer, spec, session)
    return session.result()


def _unfinished(trainer: Trainer, spec: TrialSpec, session: TrialSession) -> TrialError:
    if session.should_stop():
        return TrialPaused(f"left at {session.tokens:,} of {spec.tokens:,} tokens")
    return TrialFailed(
        _fault(trainer),
        f"the trainer returned with its curve at {session.tokens:,} of {spec.tokens:,} tokens; "
        "emit a point at each of spec.eval_tokens, the last of which is the horizon",
    )


def _failure(error: BaseException, trainer: Trainer) -> TrialFailed:
    if (memory := _memory(error)) is not None:
        return TrialFailed(memory, str(error) or type(error).__name__)
    if disk_is_full(error):
        return TrialFailed(Cause.DISK_FULL, str(error))
    if isinstance(error, ScalesweepError):
        return TrialFailed(Cause.USER_ERROR, str(error))
    lost = isinstance(error, RuntimeError) and any(words in str(error) for words in _DEVICE_LOST_WORDS)
    cause = Cause.WORKER_LOST if lost else _fault(trainer)
    return TrialFailed(cause, "".join(traceback.format_exception(error)).rstrip())


def _memory(error: BaseException) -> Cause | None:
    """Which memory is out; None where the error says nothing of it."""
    text = str(error) if isinstance(error, RuntimeError) else ""
    if type(error).__name__ == _DEVICE_MEMORY_ERROR or any(words in text for words in _DEVICE_MEMORY_WORDS):
        return Cause.OUT_OF_DEVICE_MEMORY
    refused = isinstance(error, OSError) and error.errno == errno.ENOMEM
    if refused or isinstance(error, MemoryError) or any(words in text for words in _HOST_MEMORY_WORDS):
        return Cause.OUT_OF_HOST_MEMORY
    return None


def _fault(trainer: Trainer) -> Cause:
    return Cause.USER_ERROR if isinstance(trainer, UserTrainer) else Cause.BUG


def _finite(curve: tuple[CurvePoint, ...]) -> tuple[CurvePoint, ...]:
    return tuple(point for point in curve if math.isfinite(point.loss))


def _rate(curve: tuple[CurvePoint, ...]) -> float | None:
    """Tokens per second over all intervals that know theirs."""
    tokens = seconds = 0.0
    before = 0
    for point in curve:
        if point.tokens_per_second:
            tokens += point.tokens - before
            seconds += (point.tokens - before) / point.tokens_per_second
        before = point.tokens
    return tokens / seconds if seconds else None
