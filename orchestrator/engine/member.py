"""A worker as the driver sees it, and why one was lost."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.engine.cluster import demands, in_time
from orchestrator.engine.roster import ClusterView
from orchestrator.engine.worker import Heard, Worker
from orchestrator.ports import Assignment, AttemptEnded, Outcome, Resources, TrainerRef
from search_spaces.errors import InputError, ScalesweepError
from trainers.api import Cause

# A poll that found nothing comes back and is sent again: so often every worker is heard of. Seconds.
POLL_S = 5.0
# A worker whose poll is so much overdue is given up, seconds: a link that is cut for less harms nothing, and a trial
# behind one that is cut for good is not kept from the others for the minute that Ray itself takes to say so.
UNREACHABLE_S = 25.0
# A new worker has so long to answer at all, seconds: Python and Ray take 1 to 10, on a busy machine more. A guess.
FIRST_ANSWER_S = 120.0
_MAKE_S = 30.0  # Ray takes milliseconds to note a new worker, and without a head for ever
_GET_S = 5.0  # a poll's answer that is there comes at once, but for a large one behind a cut link


@dataclass(kw_only=True)
class Member:
    """A worker's handle, its node, the poll that is out, and its attempt. Times are monotonic seconds."""

    handle: Any
    node: str
    ready: ray.ObjectRef
    poll: ray.ObjectRef
    polled_at: float = field(default_factory=time.monotonic)
    heard: bool = False
    leaving: bool = False  # its process or node is about to go: it gets no further attempt
    assignment: Assignment | None = None
    ends_at: float | None = None  # when its attempt has taken too long

    def give(self, assignment: Assignment) -> None:
        """Start an attempt."""
        self.assignment = assignment
        timeout_s = assignment.resources.timeout_s
        self.ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        self.handle.begin.remote(assignment)

    def take_back(self) -> None:
        """The attempt has ended."""
        self.assignment = self.ends_at = None

    def hear(self) -> Heard | None:
        """What the poll brought, with the next one sent; None if it is still on its way. Raises RayError."""
        try:
            heard: Heard = ray.get(self.poll, timeout=_GET_S)
        except GetTimeoutError:
            return None
        self.heard = True
        self.poll, self.polled_at = _poll(self.handle), time.monotonic()
        return heard

    def ask_to_leave(self) -> None:
        """Let the attempt, if there is one, write a checkpoint and end as paused."""
        if self.assignment is not None:
            self.handle.ask_to_leave.remote(self.assignment.spec.key)

    def overdue(self, now: float) -> bool:
        """Whether it has been silent for too long."""
        return now - self.polled_at > (POLL_S + UNREACHABLE_S if self.heard else FIRST_ANSWER_S)

    def timed_out(self, now: float) -> bool:
        """Whether its attempt takes longer than it may."""
        return self.ends_at is not None and now > self.ends_at

    def failed(self, cause: Cause, message: str) -> AttemptEnded | None:
        """The end of its attempt without a measurement; None if it has none."""
        if self.assignment is None:
            return None
        return AttemptEnded(
            key=self.assignment.spec.key,
            attempt=self.assignment.attempt,
            outcome=Outcome.FAILED,
            cause=cause,
            message=message,
        )


def make_member(trainer: TrainerRef, shape: Resources, node: str) -> Member:
    """A new worker on a node. Raises ClusterLostError where the cluster does not answer."""
    wanted = demands(shape)
    actor = ray.remote(
        num_cpus=wanted.get("CPU", 0),
        num_gpus=wanted.get("GPU", 0),
        memory=int(wanted["memory"]) if "memory" in wanted else None,
        max_restarts=0,
        concurrency_groups={"start": 1, "poll": 1},
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    )(Worker)
    handle = in_time(lambda: actor.remote(trainer, Path.cwd(), shape), _MAKE_S, "making a worker")
    ready = handle.ready.options(concurrency_group="start").remote()
    return Member(handle=handle, node=node, ready=ready, poll=_poll(handle))


def answered(members: Mapping[str, Member], timeout_s: float) -> list[str]:
    """Names of the members whose poll is answered; waits so long for the first."""
    return _done({member.poll: name for name, member in members.items()}, timeout_s)


def started(members: Mapping[str, Member], names: Iterable[str], timeout_s: float) -> list[str]:
    """Those of the named members that are ready, or have failed to be; waits so long for the first."""
    return _done({members[name].ready: name for name in names}, timeout_s)


def unbuilt(error: RayTaskError) -> ScalesweepError:
    """Why a worker could not build its trainer, from what `ready` raised."""
    return error.cause if isinstance(error.cause, InputError) else ScalesweepError(f"a worker cannot build it: {error}")


def cause_of(error: RayError, member: Member, view: ClusterView) -> Cause:
    """Why a worker was lost, from a view of the cluster that is younger than the error."""
    announced = isinstance(error, ActorDiedError) and error.preempted
    if announced or member.leaving or member.node in view.draining | view.dismissed:
        return Cause.PREEMPTED
    if isinstance(error, OutOfMemoryError):
        return Cause.OUT_OF_HOST_MEMORY
    # A dead process is reported by its node at once; where nobody reports, the node is gone.
    if isinstance(error, NodeDiedError | ActorUnavailableError) or not view.alive(member.node):
        return Cause.NODE_LOST
    return Cause.BUG if isinstance(error, RayTaskError) else Cause.WORKER_LOST


def _done(refs: Mapping[ray.ObjectRef, str], timeout_s: float) -> list[str]:
    if not refs:
        return []
    done, _ = ray.wait(list(refs), num_returns=1, timeout=timeout_s)
    if done:
        done, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0)
    return [refs[ref] for ref in done]


def _poll(handle: Any) -> ray.ObjectRef:  # noqa: ANN401 - Ray's actor handles have no type
    return handle.poll.options(concurrency_group="poll").remote(POLL_S)
