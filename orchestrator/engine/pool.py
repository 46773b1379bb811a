"""The worker pool on Ray: long-lived warm actors, one attempt at a time on each."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import ray
from ray.exceptions import RayError, RayTaskError

from orchestrator.engine.cluster import LOCAL, connect, disconnect
from orchestrator.engine.fitness import Fitness
from orchestrator.engine.member import Member, answered, cause_of, make_member, started, unbuilt
from orchestrator.engine.nodes import NodeSize, check_fits, size_of
from orchestrator.engine.nonce import Admission
from orchestrator.engine.placement import Grant, Placement
from orchestrator.engine.roster import ClusterView
from orchestrator.engine.shunned import Shunned
from orchestrator.engine.slot import TOO_LONG
from orchestrator.engine.watch import LOOK_EVERY_S, Watch
from orchestrator.ports import Assignment, AttemptEnded, Outcome, PoolEvent, Resources, TrainerRef
from search_spaces.errors import InputError, ScalesweepError
from trainers.api import Cause

logger = logging.getLogger(__name__)

_SLICE_S = 1.0  # a wait looks at nodes, silence and time-outs this often
# A view of the cluster that is older makes no new workers: making one may hang. Seconds.
_STALE_S = 3 * LOOK_EVERY_S
_REFRESH_S = 3.0  # so long an answer is waited for before a lost worker's cause is told by what is known, seconds
# Nodes have so long to try the storage at the start, seconds; a guess: a first Python process on a busy one takes 20.
_STORAGE_S = 90.0
# The first workers have so long to build and warm their trainers, seconds, and a place where one died is tried so
# often. Guesses: reading a large corpus from a shared disk takes a minute.
_START_S, _START_TRIES = 600.0, 3
_CLOSE_S = 5.0


class RayPool:
    """Workers on the machines of a Ray cluster.

    `start` fills the cluster with workers of the `smallest` shape; other shapes get workers when they are
    asked for, in the place of idle ones. `address` is `local` (Ray is started on this machine and ends with
    this process) or a cluster's (`auto`: the one that this machine is part of). At most `workers` live at once,
    if it is given, and an autoscaler is asked for so many; else for one more than runs. For `wait_s` seconds nodes
    that a scale needs may be missing at the start. A process that is connected to Ray already stays connected to
    that. Only nodes that share the `storage` work, without one only the driver's, and only those where the trainer can
    be built: on a new node one worker builds it before a trial is given there. Raises ClusterLostError from any method
    when the cluster does not answer any more, and from `wait` what building the trainer raised, if no node can.
    """

    def __init__(
        self,
        *,
        trainer: TrainerRef,
        address: str = LOCAL,
        workers: int | None = None,
        smallest: Resources = Resources(),  # noqa: B008 - frozen
        wait_s: float = 0.0,
        storage: str | None = None,
    ) -> None:
        self._trainer = trainer
        self._smallest = smallest
        self._address = address
        self._workers = workers
        self._wait_s = wait_s
        self._owns_ray = False
        self._watch: Watch | None = None
        self._admission = Admission(storage)
        self._fitness = Fitness()
        self._nodes: dict[str, NodeSize] = {}  # admitted, and thought to be alive
        self._starting = True
        self._placement = Placement(max_workers=workers)
        self._members: dict[str, Member] = {}
        self._probes: dict[str, Resources] = {}  # workers that build the first trainer of a node, and shapes
        self._numbers = itertools.count()
        self._shunned = Shunned()
        self._events: list[PoolEvent] = []

    def start(self) -> None:
        """Connect, and bring up warm workers in parallel. Raises InputError where the trainer cannot be built."""
        # More workers than processors are the user's choice; fewer do not make the machine smaller.
        more = self._workers is not None and self._workers > (os.cpu_count() or 1)
        self._owns_ray = connect(self._address, cpus=self._workers if more else None)
        self._watch = Watch()
        self._watch.refresh(_REFRESH_S)
        self._admission.start(self._alive, _STORAGE_S)
        self.check({"default": self._smallest})
        for _ in range(_START_TRIES):
            if not self._bring_up():
                break
        if not self._members:
            self._fitness.raise_reason()
            raise ScalesweepError(
                f"no worker came up in {_START_TRIES} tries: each died as it started; see Ray's logs "
                "(/tmp/ray/session_latest/logs) on the nodes, and their memory"
            )
        for name in self._members:
            self._placement.release(name)
        self._starting = False
        self._follow_nodes()

    def check(self, resources: Mapping[str, Resources]) -> None:
        """Raises InputError naming the scale whose resources no node of the cluster can give."""
        deadline, said = time.monotonic() + self._wait_s, ""
        while True:
            self._watching.refresh(_REFRESH_S)
            self._watching.check()
            self._follow_nodes()
            try:
                return check_fits(resources, self._open().values())
            except InputError as error:
                if time.monotonic() > deadline:
                    raise
                if str(error) != said:
                    logger.warning("waiting for nodes: %s", said := str(error))
                self._want(list(resources.values()))
                time.sleep(min(LOOK_EVERY_S, self._wait_s))

    @property
    def slots(self) -> int:
        """How many trials of the smallest resources run at once."""
        return self._placement.slots(self._smallest)

    @property
    def nodes(self) -> Mapping[str, NodeSize]:
        """The nodes that take work now, by their ids."""
        return self._placement.nodes

    @property
    def busy(self) -> int:
        """How many attempts are running, or have an end that was not waited for yet."""
        return sum(member.assignment is not None for member in self._members.values()) + sum(
            isinstance(event, AttemptEnded) for event in self._events
        )

    def has_room(self, resources: Resources) -> bool:
        """Whether an attempt would start at once. If not, capacity that is freed is held for it for a while."""
        if self._grant(resources) is not None:
            return True
        self._try_out(resources)
        return False

    def submit(self, assignment: Assignment) -> str:
        """Start an attempt; returns the name of its worker. Raises ScalesweepError where there is no room."""
        grant = self._placement.request(assignment.resources, time.monotonic())  # has_room has seen to the rest
        if grant is None:
            raise ScalesweepError(f"no room for trial {assignment.spec.key}: ask has_room before submit")
        name = self._worker_for(grant, assignment.resources)
        self._members[name].give(assignment)
        self._placement.occupy(name)
        return name

    def wait(self, timeout_s: float) -> Sequence[PoolEvent]:
        """What happened, at once if something has; empty after the time-out."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._look()
            left_s = max(0.0, deadline - time.monotonic())
            self._hear(0.0 if self._events else min(_SLICE_S, left_s))
            if self._events or time.monotonic() >= deadline:
                events, self._events = self._events, []
                return events

    def ask_to_leave(self, key: str) -> None:
        """Let the trial's attempt write a checkpoint and end as paused."""
        for member in self._members.values():
            if member.assignment is not None and member.assignment.spec.key == key:
                member.ask_to_leave()

    def close(self) -> None:
        """End all workers, and Ray if this pool started it."""
        for name in list(self._members):
            self._dismiss(name)
        self._events = []
        if self._watch is not None:
            self._watch.close(_CLOSE_S)
            self._watch = None
            self._admission.close()
        if self._owns_ray:
            disconnect()
            self._owns_ray = False

    @property
    def _watching(self) -> Watch:
        if self._watch is None:
            raise ScalesweepError("the pool is not started: call start first")
        return self._watch

    def _alive(self) -> Mapping[str, NodeSize]:
        """The nodes that there are. Raises ClusterLostError where nobody knows any more."""
        self._watching.check()
        return self._watching.view.nodes

    # Making workers

    def _bring_up(self) -> bool:
        """A worker in every place that is free, waited for; whether one of them was lost."""
        self._follow_nodes()
        waiting: list[str] = []
        while (grant := self._grant(self._smallest)) is not None:
            name = self._worker_for(grant, self._smallest)
            self._placement.occupy(name)
            waiting.append(name)
        lost, deadline = False, time.monotonic() + _START_S
        while waiting:
            self._watching.check()
            for name in started(self._members, waiting, _SLICE_S):
                waiting.remove(name)
                lost |= not self._came_up(name)
            for name in [each for each in waiting if not self._watching.view.alive(self._members[each].node)]:
                waiting.remove(name)
                self._dismiss(name)
                lost = True
            if time.monotonic() > deadline:
                raise ScalesweepError(f"{len(waiting)} workers have not built their trainers within {_START_S:g} s")
        return lost

    def _came_up(self, name: str) -> bool:
        """Whether a worker is ready; one that died, or cannot build its trainer, is dismissed."""
        node = self._members[name].node
        try:
            ray.get(self._members[name].ready, timeout=_SLICE_S)
        except RayTaskError as error:
            self._fitness.failed(node, unbuilt(error))
            self._dismiss(name)
            return False
        except RayError as error:
            logger.warning("%s died while it started: %s", name, error)
            self._dismiss(name)
            self._watching.refresh(_REFRESH_S)
            return False
        self._fitness.proved(node)
        return True

    def _try_out(self, shape: Resources) -> None:
        """A worker where none has built its trainer yet, for a shape that has to wait: it may wait for this one."""
        tried = {self._members[name].node for name in self._probes}
        untried = self._fitness.untried(self._nodes).items()
        node = next((node for node, size in untried if node not in tried and size.holds(shape)), None)
        if node is None or self._watching.age_s > _STALE_S or not self._make_way():
            return
        name = f"worker-{next(self._numbers)}"
        self._members[name] = make_member(self._trainer, shape, node)
        self._probes[name] = shape

    def _make_way(self) -> bool:
        """Whether another worker may live, after an idle one was retired if there are as many as may."""
        if self._workers is None or len(self._members) < self._workers:
            return True
        idle = [name for name, each in self._members.items() if each.assignment is None and name not in self._probes]
        if idle:
            self._dismiss(idle[0])
        return bool(idle)

    def _end_probes(self) -> None:
        """Workers that have built the first trainer of their node, or could not."""
        for name in started(self._members, self._probes, 0.0):
            shape, node = self._probes.pop(name), self._members[name].node
            if not self._came_up(name):
                self._shun(node)
                continue
            self._follow_nodes()
            self._placement.add(name, shape, node)
            if self._workers is not None and len(self._members) > self._workers:
                self._dismiss(name)

    def _grant(self, shape: Resources) -> Grant | None:
        grant = self._placement.request(shape, time.monotonic())
        if grant is not None and grant.worker is None and self._watching.age_s > _STALE_S:
            return None
        return grant

    def _worker_for(self, grant: Grant, shape: Resources) -> str:
        """The worker of a grant: the idle one, or a new one after others were retired."""
        if grant.worker is not None:
            return grant.worker
        for name in grant.retire:
            self._dismiss(name)
        name = f"worker-{next(self._numbers)}"
        self._members[name] = make_member(self._trainer, shape, grant.node)
        self._placement.add(name, shape, grant.node)
        return name

    # What becomes of workers and nodes

    def _look(self) -> None:
        """Follow the nodes, and give up workers that have gone, do not answer, or take too long."""
        self._watching.check()
        self._follow_nodes()
        self._end_probes()
        self._fitness.warn(self._watching.view.name)
        self._shunned.warn(self._watching.view.name, time.monotonic())
        self._fitness.check(self._nodes, time.monotonic())
        for name in list(self._members):
            self._examine(name, self._watching.view, time.monotonic())
        self._want([])

    def _examine(self, name: str, view: ClusterView, now: float) -> None:
        member = self._members[name]
        if not view.alive(member.node):
            cause = Cause.PREEMPTED if member.leaving or member.node in view.dismissed else Cause.NODE_LOST
            self._lost(name, cause, f"node {member.node} has left the cluster")
        elif member.overdue(now):
            self._shun(member.node)
            self._lost(name, Cause.NODE_LOST, f"no answer for {now - member.polled_at:.0f} s")
        elif member.timed_out(now):
            self._lost(name, Cause.TIMED_OUT, TOO_LONG)
        elif member.node in view.draining and not member.leaving:
            self._let_go(name)

    def _hear(self, timeout_s: float) -> None:
        """Take in what workers say."""
        if not self._members:
            time.sleep(timeout_s)
            return
        failed: dict[str, RayError] = {}
        for name in answered(self._members, timeout_s):
            try:
                self._take_in(name)
            except RayError as error:
                failed[name] = error
        if not failed:
            return
        view = self._watching.refresh(_REFRESH_S)
        self._follow_nodes()
        for name, reason in failed.items():
            member = self._members[name]
            cause = cause_of(reason, member, view)
            if cause is Cause.NODE_LOST:
                self._shun(member.node)
            self._lost(name, cause, str(reason))

    def _take_in(self, name: str) -> None:
        member = self._members[name]
        heard = member.hear()
        if heard is None:
            return
        for event in heard.events:
            if isinstance(event, AttemptEnded):
                member.take_back()
                self._placement.release(name)
                self._shunned.ended(member.node, event.key, event.cause, time.monotonic())
                member.leaving |= event.cause is Cause.WORKER_LOST  # its device or disk may be lost to its process
                if event.outcome is Outcome.PAUSED and member.leaving:
                    event = replace(event, cause=Cause.PREEMPTED)  # noqa: PLW2901
            self._events.append(event)
        if heard.leaving or member.leaving:
            self._let_go(name)

    def _let_go(self, name: str) -> None:
        """A worker whose process or node is about to go: it hands over, and is dismissed when it has."""
        member = self._members[name]
        member.leaving = True
        if member.assignment is None:
            self._dismiss(name)
        else:
            member.ask_to_leave()

    def _lost(self, name: str, cause: Cause, message: str) -> None:
        """A worker that is given up: it may still run behind a cut link, and its attempt is fenced."""
        member = self._members[name]
        ended = member.failed(cause, message)
        if name in self._probes:
            self._shun(member.node)
        self._dismiss(name)
        logger.warning("%s: %s: %s", name, cause.value, message.partition("\n")[0])
        if ended is not None:
            self._shunned.ended(member.node, ended.key, cause, time.monotonic())
            self._follow_nodes()
            self._events.append(ended)

    def _dismiss(self, name: str) -> None:
        ray.kill(self._members.pop(name).handle, no_restart=True)
        self._probes.pop(name, None)
        self._placement.remove(name)

    def _shun(self, node: str) -> None:
        """Make no worker there until Ray knows whether the node is alive."""
        self._shunned.silent(node, time.monotonic())
        self._follow_nodes()

    def _follow_nodes(self) -> None:
        now = time.monotonic()
        self._nodes = self._shunned.heard(self._admission.of(self._watching.view.nodes), now)
        nodes = self._open() if self._starting else self._fitness.proven(self._nodes)
        self._placement.set_nodes(nodes, self._shunned.ill(nodes, now))

    def _open(self) -> dict[str, NodeSize]:
        """The nodes where the trainer can be built, or may be."""
        return self._fitness.proven(self._nodes) | self._fitness.untried(self._nodes)

    def _want(self, more: Sequence[Resources]) -> None:
        """What an autoscaler is asked for: what runs and waits, and as many of the smallest as the user wants."""
        if self._address != LOCAL:
            wanted = [*self._placement.wanted, *more]
            wanted += [self._smallest] * ((self._workers or 0) - len(wanted))
            self._watching.wanted = sorted(wanted, key=size_of)
