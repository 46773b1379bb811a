"""The worker pool on Ray: long-lived warm actors, one attempt at a time on each."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.engine.cluster import LOCAL, alive_nodes, connect
from orchestrator.engine.nodes import check_fits
from orchestrator.engine.placement import Grant, Placement
from orchestrator.engine.worker import Worker
from orchestrator.ports import Assignment, AttemptEnded, Outcome, PoolEvent, Resources, TrainerRef
from search_spaces.errors import InputError, ScalesweepError
from trainers.api import Cause

logger = logging.getLogger(__name__)

# A poll that found nothing comes back and is sent again, so that no call stays open for hours. Seconds.
_POLL_S = 30.0
_NODES_EVERY_S = 5.0  # how often nodes that came or went are looked for; a guess
_GIB = 2**30


@dataclass(kw_only=True)
class _Member:
    """A worker as the driver sees it: its handle, the poll that is out, and its attempt."""

    handle: Any
    ready: ray.ObjectRef
    poll: ray.ObjectRef
    assignment: Assignment | None = None


class RayPool:
    """Workers on the machines of a Ray cluster.

    `start` fills the cluster with workers of the `smallest` shape; other shapes get workers when they are
    asked for, in the place of idle ones. `address` is `local` (Ray is started on this machine and ends with
    this process) or a cluster's (`auto`: the one that this machine is part of). At most `workers` live at once,
    if it is given. A process that is connected to Ray already stays connected to that.
    """

    def __init__(
        self,
        *,
        trainer: TrainerRef,
        address: str = LOCAL,
        workers: int | None = None,
        smallest: Resources = Resources(),  # noqa: B008 - frozen
    ) -> None:
        self._trainer = trainer
        self._smallest = smallest
        self._address = address
        self._workers = workers
        self._owns_ray = False
        self._placement = Placement(max_workers=workers)
        self._members: dict[str, _Member] = {}
        self._numbers = itertools.count()
        self._events: list[PoolEvent] = []
        self._nodes_at = 0.0

    def start(self) -> None:
        """Connect, and bring up warm workers in parallel. Raises InputError where the trainer cannot be built."""
        # More workers than processors are the user's choice; fewer do not make the machine smaller.
        more = self._workers is not None and self._workers > (os.cpu_count() or 1)
        self._owns_ray = connect(self._address, cpus=self._workers if more else None)
        self._look_at_nodes()
        check_fits({"default": self._smallest}, self._placement.nodes.values())
        while (grant := self._placement.request(self._smallest, time.monotonic())) is not None:
            self._placement.occupy(self._worker_for(grant, self._smallest))
        for name, member in self._members.items():
            self._placement.release(name)
            _get_ready(member.ready)

    def check(self, resources: Mapping[str, Resources]) -> None:
        """Raises InputError naming the scale whose resources no node of the cluster can give."""
        check_fits(resources, self._placement.nodes.values())

    @property
    def slots(self) -> int:
        """How many trials of the smallest resources run at once."""
        return self._placement.slots(self._smallest)

    @property
    def busy(self) -> int:
        """How many attempts are running, or have an end that was not waited for yet."""
        return sum(member.assignment is not None for member in self._members.values()) + sum(
            isinstance(event, AttemptEnded) for event in self._events
        )

    def has_room(self, resources: Resources) -> bool:
        """Whether an attempt would start at once. If not, capacity that is freed is held for it for a while."""
        return self._placement.request(resources, time.monotonic()) is not None

    def submit(self, assignment: Assignment) -> str:
        """Start an attempt; returns the name of its worker. Raises ScalesweepError where there is no room."""
        grant = self._placement.request(assignment.resources, time.monotonic())
        if grant is None:
            raise ScalesweepError(f"no room for trial {assignment.spec.key}: ask has_room before submit")
        name = self._worker_for(grant, assignment.resources)
        member = self._members[name]
        member.assignment = assignment
        self._placement.occupy(name)
        member.handle.begin.remote(assignment)
        return name

    def wait(self, timeout_s: float) -> Sequence[PoolEvent]:
        """What happened, at once if something has; empty after the time-out."""
        if time.monotonic() - self._nodes_at > _NODES_EVERY_S:
            self._look_at_nodes()
        polls = {member.poll: name for name, member in self._members.items()}
        if polls:
            done, _ = ray.wait(list(polls), num_returns=1, timeout=0 if self._events else timeout_s)
            more, _ = ray.wait(list(polls), num_returns=len(polls), timeout=0) if done else ([], [])
            for ref in more:
                self._collect(polls[ref])
        elif not self._events:
            time.sleep(timeout_s)
        events, self._events = self._events, []
        return events

    def ask_to_leave(self, key: str) -> None:
        """Let the trial's attempt write a checkpoint and end as paused."""
        for member in self._members.values():
            if member.assignment is not None and member.assignment.spec.key == key:
                member.handle.ask_to_leave.remote(key)

    def close(self) -> None:
        """End all workers, and Ray if this pool started it."""
        for name in list(self._members):
            self._dismiss(name)
        self._events = []
        if self._owns_ray:
            ray.shutdown()
            self._owns_ray = False

    def _worker_for(self, grant: Grant, shape: Resources) -> str:
        """The worker of a grant: the idle one, or a new one after others were retired."""
        if grant.worker is not None:
            return grant.worker
        for name in grant.retire:
            self._dismiss(name)
        name = f"worker-{next(self._numbers)}"
        handle = _actor(shape, grant.node).remote(self._trainer, Path.cwd(), shape)
        self._members[name] = _Member(
            handle=handle, ready=handle.ready.options(concurrency_group="start").remote(), poll=_poll(handle)
        )
        self._placement.add(name, shape, grant.node)
        return name

    def _collect(self, name: str) -> None:
        """Take in what a worker's poll brought, and poll again."""
        member = self._members[name]
        try:
            found: Sequence[PoolEvent] = ray.get(member.poll)
        except RayError as error:
            self._lost(name, error)
            return
        self._events.extend(found)
        if any(isinstance(event, AttemptEnded) for event in found):
            member.assignment = None
            self._placement.release(name)
        member.poll = _poll(member.handle)

    def _lost(self, name: str, error: RayError) -> None:
        """A worker that does not answer is given up: unavailable is treated as dead, its attempt is fenced."""
        member = self._members[name]
        node = self._placement.seat(name).node
        self._dismiss(name)
        self._look_at_nodes()
        cause = _cause(error, node_alive=node in self._placement.nodes)
        logger.warning("%s: %s", name, cause.value)
        if member.assignment is not None:
            self._events.append(
                AttemptEnded(
                    key=member.assignment.spec.key,
                    attempt=member.assignment.attempt,
                    outcome=Outcome.FAILED,
                    cause=cause,
                    message=str(error),
                )
            )

    def _dismiss(self, name: str) -> None:
        ray.kill(self._members.pop(name).handle, no_restart=True)
        self._placement.remove(name)

    def _look_at_nodes(self) -> None:
        self._nodes_at = time.monotonic()
        self._placement.set_nodes(alive_nodes())


def _actor(shape: Resources, node: str) -> Any:  # noqa: ANN401 - Ray's actor classes have no type
    memory = {} if shape.memory_gib is None else {"memory": int(shape.memory_gib * _GIB)}
    return ray.remote(
        num_cpus=shape.cpus,
        num_gpus=shape.gpus,
        max_restarts=0,
        concurrency_groups={"start": 1, "poll": 1},
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        **memory,
    )(Worker)


def _poll(handle: Any) -> ray.ObjectRef:  # noqa: ANN401
    return handle.poll.options(concurrency_group="poll").remote(_POLL_S)


def _get_ready(ready: ray.ObjectRef) -> None:
    try:
        ray.get(ready)
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from error
        raise ScalesweepError(f"a worker cannot build its trainer: {error}") from error
    except RayError as error:
        raise ScalesweepError(f"a worker died while it started: {error}") from error


def _cause(error: RayError, *, node_alive: bool) -> Cause:
    if isinstance(error, ActorDiedError) and error.preempted:
        return Cause.PREEMPTED
    if isinstance(error, OutOfMemoryError):
        return Cause.OUT_OF_MEMORY
    if isinstance(error, NodeDiedError) or not node_alive:
        return Cause.NODE_LOST
    return Cause.BUG if isinstance(error, RayTaskError) else Cause.WORKER_LOST
