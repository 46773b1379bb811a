"""One thread that runs attempts, one at a time: what a local pool has many of, and a Ray worker has one."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from orchestrator.ports import Assignment, AttemptEnded, Outcome, PointsArrived, PoolEvent, TrainerRef
from orchestrator.storage.workspace import attempt_workspace
from search_spaces.errors import InputError
from trainers import registry
from trainers.api import Cause, CurvePoint, Trainer, TrialFailed, TrialPaused
from trainers.masking import masked
from trainers.session import TrialSession, run_trial

TOO_LONG = "the attempt took longer than its scale's timeout_minutes"


@dataclass(frozen=True, kw_only=True)
class _Job:
    assignment: Assignment
    preempted: threading.Event  # the slot's
    leave: threading.Event = field(default_factory=threading.Event)

    def should_leave(self) -> bool:
        """Whether the trial was asked to leave, or its process is about to be taken away."""
        return self.leave.is_set() or self.preempted.is_set()


class Slot:
    """Builds its trainer in a thread of its own and runs attempts there; events go to the queue given.

    The thread outlives whatever the trainer raises. `folder` is where a user's own trainer is looked for.
    """

    def __init__(self, trainer: TrainerRef, folder: Path, events: SimpleQueue[PoolEvent]) -> None:
        self._trainer = trainer
        self._folder = folder
        self._events = events
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._job: _Job | None = None
        self._begun = self._ended = 0
        self._preempted = threading.Event()
        self._ready = threading.Event()
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="scalesweep-slot", daemon=True)
        self._thread.start()

    def wait_ready(self) -> None:
        """Return when the trainer is built and warm. Raises what building it raised."""
        self._ready.wait()
        if self._broken is not None:
            raise self._broken

    def begin(self, assignment: Assignment) -> None:
        """Run an attempt after those begun before."""
        self._begun += 1
        self._job = _Job(assignment=assignment, preempted=self._preempted)
        self._jobs.put(self._job)

    def ask_to_leave(self, key: str) -> None:
        """Let the trial's attempt pause, if it is the one begun last."""
        if self._job is not None and self._job.assignment.spec.key == key:
            self._job.leave.set()

    @property
    def idle(self) -> bool:
        """Whether every attempt begun has its end in the queue."""
        return self._ended >= self._begun

    def preempt(self) -> None:
        """Let the running attempt, and any later one, hand over: the process is about to be taken away."""
        self._preempted.set()

    def close(self, timeout_s: float) -> None:
        """Let the running attempt pause, and wait so long for it."""
        if self._job is not None:
            self._job.leave.set()
        self._jobs.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        trainer = self._build()
        while (job := self._jobs.get()) is not None:
            if trainer is None:
                self._events.put(_unbuilt(job.assignment, self._broken))
            else:
                self._events.put(_attempt(trainer, job, self._events))
            self._ended += 1

    def _build(self) -> Trainer | None:
        try:
            trainer = registry.build(self._trainer.name, self._trainer.options, self._folder)
            _check_version(self._trainer, trainer)
            warm_up = getattr(trainer, "warm_up", None)
            if warm_up is not None:
                warm_up()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again in wait_ready
            self._broken = error
            return None
        else:
            return trainer
        finally:
            self._ready.set()


def _unbuilt(assignment: Assignment, error: BaseException | None) -> AttemptEnded:
    cause = Cause.USER_ERROR if isinstance(error, InputError) else Cause.BUG
    return AttemptEnded(
        key=assignment.spec.key,
        attempt=assignment.attempt,
        outcome=Outcome.FAILED,
        cause=cause,
        message=masked(f"the trainer cannot be built on the worker: {error}"),
    )


def _attempt(trainer: Trainer, job: _Job, events: SimpleQueue[PoolEvent]) -> AttemptEnded:
    assignment = job.assignment
    key, attempt = assignment.spec.key, assignment.attempt

    def deliver(points: tuple[CurvePoint, ...]) -> None:
        events.put(PointsArrived(key=key, attempt=attempt, points=points))

    try:
        with (
            attempt_workspace(assignment, job.should_leave) as workspace,
            TrialSession(
                spec=assignment.spec,
                attempt=workspace.start,
                workspace=workspace.folder,
                deliver=deliver,
                stop=workspace.should_stop,
                reached=assignment.reached,
            ) as session,
        ):
            result = run_trial(trainer, assignment.spec, session)
    except TrialPaused as paused:
        cause = Cause.PREEMPTED if job.preempted.is_set() else None
        return AttemptEnded(key=key, attempt=attempt, outcome=Outcome.PAUSED, cause=cause, message=str(paused))
    except TrialFailed as failed:
        message = masked(failed.message)  # by this process' environment, which the driver's need not be
        return AttemptEnded(key=key, attempt=attempt, outcome=Outcome.FAILED, cause=failed.cause, message=message)
    outcome = Outcome.DIVERGED if result.diverged else Outcome.COMPLETED
    return AttemptEnded(key=key, attempt=attempt, outcome=outcome, result=result, message=result.message)


def drain(events: SimpleQueue[PoolEvent], timeout_s: float) -> list[PoolEvent]:
    """Everything that is in the queue; waits so long for the first event."""
    try:
        found = [events.get(timeout=max(0.0, timeout_s))]
    except Empty:
        return []
    while not events.empty():
        found.append(events.get())
    return found


def _check_version(wanted: TrainerRef, trainer: Trainer) -> None:
    if wanted.version not in {None, trainer.version}:
        raise InputError(
            f"this worker's trainer is {trainer.version}, and the sweep's is {wanted.version}: the corpus or the "
            "trainer's sources differ on this machine; make them the same on every node"
        )
