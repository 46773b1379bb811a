"""Which worker serves which request: bookkeeping only, no ray.

A worker has one shape (its Resources) on one node for as long as it lives. What idle workers of other
shapes occupy counts as free: they are retired when it is wanted. A shape that was refused is waiting until
it is granted, or until nobody has asked for it during HOLD_LAPSES_S; for each waiting shape a node is held,
on which nothing smaller starts, so that large trials are not starved by small ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.engine.nodes import Free, NodeSize, size_of
from orchestrator.ports import Resources

# The sweep's loop asks several times a second for what it has waiting; ten seconds are a guess.
HOLD_LAPSES_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Seat:
    """A worker's place: its shape, its node, and the GPUs that it uses or shares there."""

    shape: Resources
    node: str
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Grant:
    """How a request can start at once: on an idle worker, or on a new one in the place of `retire`."""

    node: str
    worker: str | None = None
    retire: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Placement:
    """The nodes, the workers on them, and who waits for what. Times are monotonic seconds.

    At most `max_workers` workers live at once, if it is given.
    """

    max_workers: int | None = None
    _nodes: dict[str, NodeSize] = field(default_factory=dict, init=False)
    _avoided: frozenset[str] = field(default=frozenset(), init=False)
    _seats: dict[str, Seat] = field(default_factory=dict, init=False)
    _busy: set[str] = field(default_factory=set, init=False)
    _waiting: dict[Resources, float] = field(default_factory=dict, init=False)

    def set_nodes(self, nodes: Mapping[str, NodeSize], avoided: frozenset[str] = frozenset()) -> None:
        """Nodes that take work now. Workers on other ones stay until they are removed, and get none.

        Those that are avoided take only what no other can ever hold.
        """
        self._nodes, self._avoided = dict(sorted(nodes.items())), avoided

    @property
    def nodes(self) -> Mapping[str, NodeSize]:
        """Nodes by their id."""
        return self._nodes

    def seat(self, worker: str) -> Seat:
        """Where a worker is. Raises KeyError for one that is not known."""
        return self._seats[worker]

    def slots(self, shape: Resources) -> int:
        """How many workers of a shape the empty nodes take."""
        count = sum(_capacity(size, shape) for size in self._nodes.values())
        return count if self.max_workers is None else min(count, self.max_workers)

    def request(self, shape: Resources, now: float) -> Grant | None:
        """How the shape could start at once; None if it must wait, and then room is held for it."""
        self._waiting = {s: asked for s, asked in self._waiting.items() if now - asked < HOLD_LAPSES_S}
        grant = self._grant(shape)
        if grant is None:
            self._waiting[shape] = now
        else:
            self._waiting.pop(shape, None)
        return grant

    def add(self, worker: str, shape: Resources, node: str) -> None:
        """A new worker, idle."""
        self._seats[worker] = Seat(shape=shape, node=node, gpus=self._free(node).gpus_for(shape))

    def remove(self, worker: str) -> None:
        """A worker that has gone. No error if it is not known."""
        self._seats.pop(worker, None)
        self._busy.discard(worker)

    def occupy(self, worker: str) -> None:
        """The worker has an attempt."""
        self._busy.add(worker)

    @property
    def wanted(self) -> list[Resources]:
        """The shapes that are occupied, each as often as it is, and those that wait."""
        return [seat.shape for worker, seat in self._seats.items() if worker in self._busy] + list(self._waiting)

    def release(self, worker: str) -> None:
        """The worker is idle again. No error if it is not known."""
        self._busy.discard(worker)

    def _grant(self, shape: Resources) -> Grant | None:
        open_nodes = self._open_to(shape)
        for worker, seat in self._seats.items():
            if worker not in self._busy and seat.shape == shape and seat.node in open_nodes:
                return Grant(node=seat.node, worker=worker)
        # The fullest node that has room: whole nodes stay free for large shapes.
        for node in sorted(open_nodes, key=lambda node: self._free(node).rank):
            if self._free(node).fits(shape) and not self._full():
                return Grant(node=node)
        grants = [grant for node in open_nodes if (grant := self._by_retiring(shape, node)) is not None]
        return min(grants, key=lambda grant: len(grant.retire), default=None)

    def _by_retiring(self, shape: Resources, node: str) -> Grant | None:
        """A place on the node, after the fewest idle workers (largest first) have gone."""
        idle = [worker for worker in self._seats if worker not in self._busy]
        here = [worker for worker in idle if self._seats[worker].node == node]
        here.sort(key=lambda worker: size_of(self._seats[worker].shape), reverse=True)
        gone: list[str] = []
        while not self._free(node, without=gone).fits(shape):
            if not here:
                return None
            gone.append(here.pop(0))
        if self._full() and not gone:
            others = here or idle
            if not others:
                return None
            gone.append(others[0])
        return Grant(node=node, retire=tuple(gone))

    def _open_to(self, shape: Resources) -> list[str]:
        """Nodes that could ever hold the shape, no avoided ones if there are others, and none held for a larger one."""
        held: set[str] = set()
        larger = [other for other in self._waiting if size_of(other) > size_of(shape)]
        for other in sorted(larger, key=size_of, reverse=True):
            candidates = [node for node in self._able(other) if node not in held]
            if candidates:
                held.add(max(candidates, key=self._drained))
        return [node for node in self._able(shape) if node not in held]

    def _able(self, shape: Resources) -> list[str]:
        able = [node for node, size in self._nodes.items() if size.holds(shape)]
        return [node for node in able if node not in self._avoided] or able

    def _drained(self, node: str) -> tuple[float, ...]:
        idle = [worker for worker in self._seats if worker not in self._busy]
        return self._free(node, without=idle).rank

    def _full(self) -> bool:
        return self.max_workers is not None and len(self._seats) >= self.max_workers

    def _free(self, node: str, without: Iterable[str] = ()) -> Free:
        free = Free.of(self._nodes[node]) if node in self._nodes else Free(cpus=0, gpus=[], memory_gib=0)
        gone = set(without)
        for worker, seat in self._seats.items():
            if seat.node == node and worker not in gone:
                free.take(seat.shape, seat.gpus)
        return free


def _capacity(size: NodeSize, shape: Resources) -> int:
    if not size.holds(shape):
        return 0
    free, count = Free.of(size), 0
    while free.fits(shape) and size_of(shape) > (0, 0, 0):
        free.take(shape, free.gpus_for(shape))
        count += 1
    return count
