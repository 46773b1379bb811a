"""Which nodes may work: the driver's own, and those that were seen to share its storage."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.engine.nodes import NodeSize
from orchestrator.storage.nonce import Nonce, answer
from orchestrator.storage.store import open_store
from search_spaces.errors import InputError, ScalesweepError, StorageError

logger = logging.getLogger(__name__)

# How often answers are looked for, and when a node is asked again that could not share the storage, or gave no
# answer. Seconds; guesses.
_LOOK_EVERY_S = 0.5
_REFUSED_S, _SILENT_S = 60.0, 2.0


@dataclass(frozen=True, kw_only=True)
class _Trouble:
    """Why a node may not work now. `refused`: it said so itself; else it was not heard, and may be going."""

    why: str
    refused: bool
    again_at: float  # monotonic seconds


class Admission:
    """Asks each node with a task that reads and writes the storage there. Without storage only the driver's works.

    Called from one thread.
    """

    def __init__(self, storage: str | None) -> None:
        self._address = storage
        self._nonce = Nonce(open_store(storage)) if storage else None
        self._asked: dict[str, ray.ObjectRef] = {}
        self._admitted: set[str] = set()
        self._troubles: dict[str, _Trouble] = {}

    def start(self, alive: Callable[[], Mapping[str, NodeSize]], timeout_s: float) -> None:
        """Wait for the nodes that are alive. Those that go meanwhile, or do not answer in time, may not work yet.

        Raises InputError naming a node that cannot share the storage, or saying that there are several without one,
        and whatever `alive` raises.
        """
        if self._nonce is None:
            self._start_alone(alive())
            return
        self._nonce.ask()
        deadline = time.monotonic() + timeout_s
        while missing := sorted(set(nodes := alive()) - set(self.of(nodes))):
            for node in missing:
                if (trouble := self._troubles.get(node)) is not None and trouble.refused:
                    raise InputError(self._complaint(node, trouble.why))
            if time.monotonic() > deadline:
                self._go_without(missing, nodes, timeout_s)
                return
            time.sleep(_LOOK_EVERY_S)

    def of(self, nodes: Mapping[str, NodeSize]) -> Mapping[str, NodeSize]:
        """The nodes that may work now. New ones are asked, and come later; those that cannot are left out."""
        for node in nodes:
            if node not in self._admitted:
                self._look_at(node)
        for gone in (self._asked.keys() | self._troubles.keys()) - nodes.keys():
            self._asked.pop(gone, None)
            self._troubles.pop(gone, None)
        return {node: size for node, size in nodes.items() if node in self._admitted}

    def close(self) -> None:
        """Leave no nonce behind."""
        if self._nonce is not None:
            with suppress(StorageError):
                self._nonce.forget()

    def _start_alone(self, nodes: Mapping[str, NodeSize]) -> None:
        self._admitted = {ray.get_runtime_context().get_node_id()}
        others = sorted(set(nodes) - self._admitted)
        if others:
            raise InputError(
                f"the cluster has other nodes than the driver's ({len(others)}) and the sweep has no storage; give "
                "`storage:` a folder that all nodes share or a URL such as s3://bucket/prefix, or "
                "`cluster: {address: local}` to use this machine alone"
            )

    def _go_without(self, missing: Sequence[str], nodes: Mapping[str, NodeSize], timeout_s: float) -> None:
        """Nodes that have not answered in time are left to join. Raises InputError where no node has."""
        complaints = [self._complaint(node, self._silence(node, timeout_s)) for node in missing]
        if not self.of(nodes):
            raise InputError(complaints[0])
        for complaint in complaints:
            logger.warning("%s", complaint)

    def _silence(self, node: str, timeout_s: float) -> str:
        trouble = self._troubles.get(node)
        return f"it did not answer within {timeout_s:g} s" + (f" ({trouble.why})" if trouble else "")

    def _look_at(self, node: str) -> None:
        trouble = self._troubles.get(node)
        if trouble is not None and time.monotonic() < trouble.again_at:
            return
        if self._nonce is None or self._address is None:
            self._refuse(node, "the sweep has no storage that it could share")
        elif node not in self._asked:
            self._asked[node] = _ask(self._address, self._nonce.name, node)
        elif ray.wait([self._asked[node]], timeout=0)[0]:
            self._take_answer(node, self._asked.pop(node), self._nonce)

    def _take_answer(self, node: str, ref: ray.ObjectRef, nonce: Nonce) -> None:
        try:
            problem: str = ray.get(ref, timeout=_LOOK_EVERY_S)
            if not problem and not nonce.is_answered_by(node):
                problem = "what it wrote does not arrive here: its storage is another one"
        except RayTaskError as error:  # its own word: it cannot even begin
            problem = _line(error)
        except (RayError, StorageError) as error:  # the node may be going, or the storage be away for a moment
            self._await_again(node, _line(error))
            return
        if problem:
            self._refuse(node, problem)
        else:
            self._admitted.add(node)
            self._troubles.pop(node, None)

    def _await_again(self, node: str, why: str) -> None:
        if node not in self._troubles:
            logger.warning("node %s has not tried the storage, and is asked again while it is there: %s", node[:8], why)
        self._troubles[node] = _Trouble(why=why, refused=False, again_at=time.monotonic() + _SILENT_S)

    def _refuse(self, node: str, why: str) -> None:
        self._troubles[node] = _Trouble(why=why, refused=True, again_at=time.monotonic() + _REFUSED_S)
        logger.warning("%s", self._complaint(node, why))

    def _complaint(self, node: str, why: str) -> str:
        return (
            f"node {node[:8]} does not share the storage {self._address}: {why}; mount the folder there at the same "
            "path, or give the node's environment what the URL needs"
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _ask(address: str, nonce: str, node: str) -> ray.ObjectRef:
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=where)(_answer).remote(address, nonce, node)


def _answer(address: str, nonce: str, node: str) -> str:
    """Runs on the node; returns its trouble, or nothing."""
    try:
        answer(address, nonce, node)
    except (ScalesweepError, FileNotFoundError) as error:
        return f"{socket.gethostname()}: {error}"
    return ""
