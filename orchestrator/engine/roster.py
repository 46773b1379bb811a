"""What Ray's head says of its nodes, by calls that raise where `ray.nodes()` would end the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # its stub lists a part
from ray.core.generated.common_pb2 import NodeDeathInfo
from ray.core.generated.gcs_pb2 import GcsNodeInfo
from ray.exceptions import RayError

from orchestrator.engine.cluster import KEPT, ClusterLostError
from orchestrator.engine.nodes import NodeSize

_ANSWER_S = 5.0  # Ray's head takes milliseconds
_NODE_ID_LABEL = "ray.io/node-id"
_SAID_GOODBYE = {
    NodeDeathInfo.EXPECTED_TERMINATION,  # the raylet got SIGTERM
    NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED,
    NodeDeathInfo.AUTOSCALER_DRAIN_IDLE,
}
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class ClusterView:
    """The nodes at one moment, by their ids."""

    nodes: Mapping[str, NodeSize] = field(default_factory=dict)  # those that take work
    hosts: Mapping[str, str] = field(default_factory=dict)  # names of the machines
    draining: frozenset[str] = frozenset()  # alive, and about to be taken away
    dismissed: frozenset[str] = frozenset()  # gone, and said so

    def alive(self, node: str) -> bool:
        """Whether the node was there."""
        return node in self.nodes or node in self.draining

    def name(self, node: str) -> str:
        """How a person finds the node."""
        return f"{node[:8]} ({self.hosts[node]})" if node in self.hosts else node[:8]


class Roster:
    """The nodes of the cluster that this process is connected to.

    `ray.nodes()` aborts the process where the head has been replaced by one that knows nothing of the old cluster
    (ray 2.60, a failed check in global_state_accessor.cc), and hangs without a head. Raises ClusterLostError where the
    head does not answer to begin with.
    """

    def __init__(self) -> None:
        try:
            self._client = GcsClient(address=ray.get_runtime_context().gcs_address)
        except RayError as error:
            raise ClusterLostError(f"the Ray cluster's head does not answer ({error}); {KEPT}") from error

    def look(self) -> ClusterView:
        """The nodes now. Raises RayError: AuthenticationError where another cluster's head answers."""
        infos = {node.hex(): info for node, info in self._client.get_all_node_info(timeout=_ANSWER_S).items()}
        draining = frozenset(self._client.get_draining_nodes(timeout=_ANSWER_S))
        alive = {node for node, info in infos.items() if info.state == GcsNodeInfo.ALIVE}
        return ClusterView(
            nodes={node: _size(infos[node]) for node in alive - draining},
            hosts={node: info.node_manager_hostname for node, info in infos.items()},
            draining=draining & alive,
            dismissed=frozenset(
                node for node in infos.keys() - alive if infos[node].death_info.reason in _SAID_GOODBYE
            ),
        )


def _size(info: GcsNodeInfo) -> NodeSize:
    resources = info.resources_total
    return NodeSize(
        cpus=resources.get("CPU", 0.0),
        gpus=int(resources.get("GPU", 0)),
        memory_gib=resources["memory"] / _GIB if "memory" in resources else None,
        labels={key: value for key, value in info.labels.items() if key != _NODE_ID_LABEL},
    )
