"""The loop: ask, submit, wait, tell. It knows ports, and no Ray, Optuna or MLflow.

What is done next follows from the ledger alone, so a restart is not a special case: the ledger is
replayed, trials that were left unfinished are started again, and the loop goes on.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from orchestrator import policy
from orchestrator.agenda import Agenda
from orchestrator.curves import CurveWriter, trial_folder, whole_curve
from orchestrator.facts import CONTRADICTED, fell_back, sweep_tags
from orchestrator.files import patiently
from orchestrator.forecasts import Forecaster, Forecasts, background
from orchestrator.ledger import Closed, Ended, Event, Ledger, Predicted, Proposed, Settled, Started
from orchestrator.ports import (
    Assignment,
    AttemptEnded,
    Outcome,
    PointsArrived,
    PoolEvent,
    Proposer,
    Resources,
    StorageRef,
    Tracker,
    WorkerPool,
)
from orchestrator.steering import Steering
from orchestrator.trial import Proposal, Reason, Trial, TrialState, spec_of, trial_key
from search_spaces.plan import Search, SweepPlan
from search_spaces.space import HyperParameters
from trainers.api import Cause

logger = logging.getLogger(__name__)

# How long attempts may take to write a checkpoint and leave when nobody is in a hurry: a large checkpoint on a slow
# disk. A guess.
UNHURRIED_S = 600.0
# The loop wakes this often even if nothing happens, to look for a request to pause. Seconds.
_TICK_S = 0.5


class Ending(StrEnum):
    """How `Sweep.run` came back."""

    DONE = "done"
    PAUSED = "paused"  # the same command goes on
    STOPPED = "stopped"  # for good
    FAILED = "failed"  # the user's program fails again and again


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The outside systems of a sweep, and the forecaster."""

    proposer: Proposer
    pool: WorkerPool
    tracker: Tracker
    forecast: Forecaster


@dataclass(frozen=True, kw_only=True)
class Requests:
    """What people ask of a running sweep: each is looked at several times a second.

    `grace_s` says how long attempts may take to leave, in seconds from the request: more than that is not waited for.
    """

    pause: Callable[[], bool] = lambda: False
    stop: Callable[[], bool] = lambda: False
    grace_s: Callable[[], float] = lambda: UNHURRIED_S


@dataclass(kw_only=True)
class Sweep:
    """Runs a plan to its end. One thread, but for the forecast, which may take seconds."""

    plan: SweepPlan
    folder: Path
    ledger: Ledger
    ports: Ports
    trainer_version: str
    resources: Callable[[str], Resources]
    steering: Steering
    requests: Requests = Requests()
    storage: StorageRef | None = None
    progress: Callable[[], None] = lambda: None
    executor: Callable[[], Executor] = background  # where forecasts are made
    _agenda: Agenda = field(init=False)
    _curves: CurveWriter = field(init=False)
    _active: dict[str, str] = field(default_factory=dict, init=False)  # trial_key -> worker
    _not_before: dict[str, float] = field(default_factory=dict, init=False)
    _errors: Counter[str] = field(default_factory=Counter, init=False)
    _ending: Ending | None = field(default=None, init=False)
    _message: str = field(default="", init=False)  # why it is left
    _left_at: float = field(default=0.0, init=False)  # when attempts were asked to leave, monotonic seconds
    _enough: str = field(default="", init=False)  # why nothing more is proposed; empty while something may be

    def __post_init__(self) -> None:
        self._agenda = Agenda(
            plan=self.plan, history=self.ledger.history, steering=self.steering, proposer=self.ports.proposer
        )
        self._curves = CurveWriter(self.folder)

    def run(self) -> Ending:
        """Go on until the plan is done, or somebody asks to leave."""
        self._take_over()
        self._restore()
        with closing(Forecasts(self.ports.forecast, self.executor())) as forecasts:
            while not self._over():
                self._obey()
                if self._ending is None:
                    self._settle()
                    self._forecast(forecasts)
                    self._fill()
                for event in self.ports.pool.wait(_TICK_S):
                    self._handle(event)
                self._give_up_on_the_slow()
                self.progress()
        ending = self._ending or Ending.DONE
        if ending is not Ending.PAUSED:
            self._record(Closed(time=time.time(), how=ending.value, message=self._message or self._enough))
        return ending

    @property
    def trials(self) -> Mapping[str, Trial]:
        """All trials so far, by key, in the order of proposal."""
        return self.ledger.history.trials

    def _take_over(self) -> None:
        """An earlier driver that ended without a word leaves attempts that nobody follows: they are over."""
        for trial in list(self.trials.values()):
            if trial.state is TrialState.RUNNING:
                self._record(_waiting(trial, cause=Cause.DRIVER_LOST, message="its driver ended without a word"))

    def _restore(self) -> None:
        for trial in self.trials.values():
            self.ports.proposer.restore(trial, self._search(trial))
        show_all(self.ports.tracker, self.plan, self.trials.values(), self.folder)

    def _over(self) -> bool:
        if self._active:
            return False
        if self._ending is not None:
            return True
        return not (self._unfinished() or (not self._enough and self._agenda.unfinished()))

    def _obey(self) -> None:
        if self._ending is None:
            if self.requests.stop():
                self._leave(Ending.STOPPED)
            elif self.requests.pause():
                self._leave(Ending.PAUSED)

    def _leave(self, ending: Ending, message: str = "") -> None:
        self._ending, self._message, self._left_at = ending, message, time.monotonic()
        for key in self._active:
            self.ports.pool.ask_to_leave(key)

    def _give_up_on_the_slow(self) -> None:
        """Do not wait for ever for attempts that were asked to leave: they go on from their last checkpoint."""
        if self._ending is None or time.monotonic() - self._left_at <= self.requests.grace_s():
            return
        while self._active:
            key, worker = self._active.popitem()
            trial = self.trials[key]
            self._record(_waiting(trial, message="it did not leave in time", worker=worker))
            self.ports.tracker.trial_changed(self.trials[key], self._search(trial))

    # What to do next

    def _fill(self) -> None:
        while (start := self._next_start()) is not None:
            self._start(start)

    def _next_start(self) -> Trial | None:
        """A trial for a free slot: unfinished ones first, then proposals smallest scale first, then replicates."""
        now = time.time()
        for trial in self._unfinished():
            if self._not_before.get(trial.key, 0.0) <= now and self._has_room(self._search(trial)):
                return trial
        found = None if self._enough else self._agenda.next_proposal(self._has_room)
        return self._adopt(*found) if found else None

    def _has_room(self, search: Search) -> bool:
        return self.ports.pool.has_room(self.resources(search.cell.scale.name))

    def _unfinished(self) -> list[Trial]:
        """Trials to start again, the longest first: the last to end decides when the sweep does."""
        waiting = [t for t in self.trials.values() if not t.state.ended and t.key not in self._active]
        return sorted(waiting, key=lambda trial: self._search(trial).cell.flops(), reverse=True)

    def _settle(self) -> None:
        """Write down which searches need no further trial, and see whether the sweep has told enough."""
        for event in list(self._agenda.settled()):
            self._record(event)
        self._enough = self._agenda.enough()

    def _adopt(self, search: Search, proposal: Proposal) -> Trial:
        """Record a proposal. An equal key is never trained twice: a repeated point gets another seed."""
        search.widest.validate(proposal.settings)
        seed = self.plan.seed
        while (key := self._key(search, proposal.settings, seed)) in self.trials:
            seed += 1
        if proposal.reason is Reason.FALLBACK and not fell_back(search, self.ledger.history):
            logger.warning("%s: %s", search.name, CONTRADICTED)
        self._record(
            Proposed(
                time=time.time(),
                key=key,
                number=len(self.trials),
                scale=search.cell.scale.name,
                tokens=search.cell.tokens,
                settings=proposal.settings,
                seed=seed,
                reason=proposal.reason,
            )
        )
        trial = self.trials[key]
        self.ports.proposer.proposed(trial, search)
        return trial

    def _key(self, search: Search, settings: HyperParameters, seed: int) -> str:
        return trial_key(search=search, settings=settings, seed=seed, trainer_version=self.trainer_version)

    def _start(self, trial: Trial) -> None:
        search = self._search(trial)
        attempt = trial.attempt + 1
        # Recorded before it is acted on: a driver that dies in between leaves a number that nobody used.
        self._record(Started(time=time.time(), key=trial.key, attempt=attempt))
        self._active[trial.key] = self.ports.pool.submit(
            Assignment(
                spec=spec_of(trial, search),
                attempt=attempt,
                resources=self.resources(search.cell.scale.name),
                workspace=trial_folder(self.folder, trial.key) / "work",
                storage=self.storage,
                reached=self._curves.reached(trial.key),
            )
        )
        self.ports.tracker.trial_changed(self.trials[trial.key], search)

    # What has happened

    def _handle(self, event: PoolEvent) -> None:
        trial = self.trials[event.key]
        # A worker that was given up and came back is fenced off, and an end that comes twice is one end.
        if event.key not in self._active or event.attempt != trial.attempt:
            return
        if isinstance(event, PointsArrived):
            new = patiently(lambda: self._curves.write(event.key, event.attempt, event.points))
            self.ports.tracker.points(event.key, new)
            return
        self._curves.forget(event.key)
        self._record(self._end_of(trial, event, worker=self._active.pop(event.key, "")))
        trial = self.trials[event.key]
        search = self._search(trial)
        if trial.state.ended:
            self.ports.proposer.tell(trial, search)
        self.ports.tracker.trial_changed(trial, search)
        if event.cause in {Cause.USER_ERROR, Cause.BUG}:
            self._count_error(event)

    def _end_of(self, trial: Trial, event: AttemptEnded, worker: str) -> Ended:
        states = {
            Outcome.COMPLETED: TrialState.COMPLETED,
            Outcome.DIVERGED: TrialState.DIVERGED,
            Outcome.PAUSED: TrialState.WAITING,
        }
        state = states.get(event.outcome)
        if state is None:
            cause = event.cause or Cause.BUG
            again = policy.try_again(trial, cause)
            state = TrialState.WAITING if again else TrialState.FAILED
            self._not_before[event.key] = time.time() + policy.wait_s(trial, cause)
            logger.warning("%s: %s, %s", trial.key, cause.value, "trying again" if again else "given up")
        return Ended(
            time=time.time(),
            key=event.key,
            attempt=event.attempt,
            state=state,
            result=event.result,
            cause=event.cause,
            message=event.message,
            worker=worker,
        )

    def _count_error(self, event: AttemptEnded) -> None:
        """The same error again and again is the program's: stop before it costs the whole budget."""
        last_line = event.message.strip().splitlines()[-1:] or [""]
        self._errors[last_line[0]] += 1
        if self._errors[last_line[0]] >= policy.SAME_ERROR_LIMIT and self._ending is None:
            self._leave(Ending.FAILED, event.message)

    # Predictions of held-out searches

    def _forecast(self, forecasts: Forecasts) -> None:
        """Have held-out searches predicted from what the smaller scales measured; write it down when it is there."""
        for search, known in self._agenda.predictable():
            forecasts.ask(search, known)
        for event in list(forecasts.arrived(self.ledger.history)):
            self._record(event)

    # Small things

    def _search(self, trial: Trial) -> Search:
        return self.plan.search_of(trial.scale, trial.tokens)

    def _record(self, event: Event) -> None:
        patiently(lambda: self.ledger.append(event))
        if isinstance(event, Settled | Predicted | Closed):
            self.ports.tracker.facts(sweep_tags(self.plan, self.ledger.history))


def _waiting(trial: Trial, *, message: str, cause: Cause | None = None, worker: str = "") -> Ended:
    """The end of an attempt that is given up, and the trial to be started again."""
    return Ended(
        time=time.time(),
        key=trial.key,
        attempt=trial.attempt,
        state=TrialState.WAITING,
        cause=cause,
        message=message,
        worker=worker,
    )


def show_all(tracker: Tracker, plan: SweepPlan, trials: Iterable[Trial], folder: Path) -> None:
    """Project the whole record again; what the tracker has already is stored once."""
    for trial in trials:
        tracker.trial_changed(trial, plan.search_of(trial.scale, trial.tokens))
        points = whole_curve(folder, trial)
        if points:
            tracker.points(trial.key, points)
