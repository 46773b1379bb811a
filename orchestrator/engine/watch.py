"""Looks at the cluster's nodes every other second, in a thread of its own: without a head the look hangs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ray
from ray._private.state import state
from ray.exceptions import RayError

from orchestrator.engine.cluster import ClusterLostError, ask_for
from orchestrator.engine.nodes import NodeSize
from orchestrator.ports import Resources

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0  # a joining node gets work, and a leaving one gives it back, within this and a moment; a guess
# A head that cannot be reached for so long is given up, seconds: Ray ends a driver (and every node) without a word
# of ours after gcs_rpc_server_reconnect_timeout_s = 60, and one that is started again within it is found again.
LOST_AFTER_S = 45.0
_NODE_ID_LABEL = "ray.io/node-id"
# NodeDeathInfo.Reason of Ray's gcs.proto: EXPECTED_TERMINATION (the raylet got SIGTERM), AUTOSCALER_DRAIN_PREEMPTED
# and AUTOSCALER_DRAIN_IDLE.
_SAID_GOODBYE = {1, 3, 4}
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class ClusterView:
    """The nodes at one moment, by their ids."""

    nodes: Mapping[str, NodeSize] = field(default_factory=dict)  # those that take work
    draining: frozenset[str] = frozenset()  # alive, and about to be taken away
    dismissed: frozenset[str] = frozenset()  # gone, and said so

    def alive(self, node: str) -> bool:
        """Whether the node was there."""
        return node in self.nodes or node in self.draining


class Watch:
    """The latest view of the cluster. `wanted` is what an autoscaler is asked for at each look, if it changed."""

    def __init__(self) -> None:
        self._view = ClusterView()
        self._seen_at = time.monotonic()
        self._looks = threading.Condition()
        self._hurry = threading.Event()
        self._closed = False
        self._asked: Sequence[Resources] = ()
        self.wanted: Sequence[Resources] = ()
        self._thread = threading.Thread(target=self._run, name="scalesweep-watch", daemon=True)
        self._thread.start()

    @property
    def view(self) -> ClusterView:
        """What was seen last."""
        return self._view

    @property
    def age_s(self) -> float:
        """Seconds since the cluster answered."""
        return time.monotonic() - self._seen_at

    def refresh(self, timeout_s: float) -> ClusterView:
        """A view that is younger than this call, if the cluster gives one within the time; the last one else."""
        asked_at = time.monotonic()
        self._hurry.set()
        with self._looks:
            self._looks.wait_for(lambda: self._seen_at > asked_at, timeout_s)
        return self._view

    def check(self) -> None:
        """Raises ClusterLostError where the cluster has not answered for LOST_AFTER_S."""
        if self.age_s > LOST_AFTER_S:
            raise ClusterLostError(
                f"the Ray cluster has not answered for {self.age_s:.0f} s: its head is gone or cannot be reached; "
                "everything recorded is kept: give the same command again when the cluster is back"
            )

    def close(self, timeout_s: float) -> None:
        """Ask an autoscaler for nothing any more, and end the thread; it outlives a cluster that does not answer."""
        self.wanted, self._closed = (), True
        self._hurry.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._closed:
            self._look()
            self._hurry.wait(LOOK_EVERY_S)
            self._hurry.clear()
        self._look()  # so that an autoscaler hears of the end

    def _look(self) -> None:
        began = time.monotonic()
        try:
            view = _seen()
            self._ask()
        except (RayError, OSError, RuntimeError, ValueError) as error:  # the cluster is going, or Ray is shut down
            logger.debug("no look at the cluster: %s", error)
            return
        with self._looks:
            self._view, self._seen_at = view, max(began, self._seen_at)
            self._looks.notify_all()

    def _ask(self) -> None:
        wanted = tuple(self.wanted)
        if wanted != self._asked:
            ask_for(wanted)
            self._asked = wanted


def _seen() -> ClusterView:
    nodes, draining = ray.nodes(), frozenset(state.get_draining_nodes())
    gone = [node for node in nodes if not node["Alive"]]
    return ClusterView(
        nodes={
            node["NodeID"]: _size(node["Resources"], node["Labels"])
            for node in nodes
            if node["Alive"] and node["NodeID"] not in draining
        },
        draining=draining - {node["NodeID"] for node in gone},
        dismissed=frozenset(node["NodeID"] for node in gone if node["DeathReason"] in _SAID_GOODBYE),
    )


def _size(resources: Mapping[str, float], labels: Mapping[str, str]) -> NodeSize:
    memory = resources.get("memory")
    return NodeSize(
        cpus=resources.get("CPU", 0.0),
        gpus=int(resources.get("GPU", 0)),
        memory_gib=None if memory is None else memory / _GIB,
        labels={key: value for key, value in labels.items() if key != _NODE_ID_LABEL},
    )
