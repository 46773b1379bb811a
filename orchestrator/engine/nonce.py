"""Which nodes may work: the driver's own, and those that were seen to share its storage."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.engine.nodes import NodeSize
from orchestrator.storage.nonce import Nonce, answer
from orchestrator.storage.store import open_store
from search_spaces.errors import InputError, ScalesweepError, StorageError

logger = logging.getLogger(__name__)

# How long nodes may take to answer at the start, how often answers are looked for, and when a node that could not
# is asked again. Seconds; guesses: a first Python process on a busy node takes 20.
_ANSWER_S = 90.0
_LOOK_EVERY_S = 0.5
_AGAIN_S = 60.0


class Admission:
    """Asks each node once, with a task that reads and writes the storage there. Without storage only one node works.

    Called from one thread.
    """

    def __init__(self, storage: str | None) -> None:
        self._address = storage
        self._nonce = Nonce(open_store(storage)) if storage else None
        self._asked: dict[str, ray.ObjectRef] = {}
        self._admitted: set[str] = set()
        self._refused: dict[str, tuple[float, str]] = {}  # node: when (monotonic seconds) and why

    def start(self, nodes: Mapping[str, NodeSize]) -> None:
        """Wait for all nodes. Raises InputError naming one that does not share the storage, or several without one."""
        if self._nonce is None:
            self._admitted = {ray.get_runtime_context().get_node_id()}
            others = sorted(set(nodes) - self._admitted)
            if others:
                raise InputError(
                    f"the cluster has other nodes than the driver's ({len(others)}) and the sweep has no storage; give "
                    "`storage:` a folder that all nodes share or a URL such as s3://bucket/prefix, or "
                    "`cluster: {address: local}` to use this machine alone"
                )
            return
        self._nonce.ask()
        deadline = time.monotonic() + _ANSWER_S
        while missing := sorted(set(nodes) - set(self.of(nodes))):
            refused = next((node for node in missing if node in self._refused), None)
            if refused is not None or time.monotonic() > deadline:
                raise InputError(self._complaint(refused or missing[0]))
            time.sleep(_LOOK_EVERY_S)

    def of(self, nodes: Mapping[str, NodeSize]) -> Mapping[str, NodeSize]:
        """The nodes that may work now. New ones are asked, and come later; those that cannot are left out."""
        for node in nodes:
            if node not in self._admitted:
                self._look_at(node)
        for gone in set(self._asked) - set(nodes):
            del self._asked[gone]
        return {node: size for node, size in nodes.items() if node in self._admitted}

    def close(self) -> None:
        """Leave no nonce behind."""
        if self._nonce is not None:
            with suppress(StorageError):
                self._nonce.forget()

    def _look_at(self, node: str) -> None:
        now = time.monotonic()
        if node in self._refused and now - self._refused[node][0] < _AGAIN_S:
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
        except (RayError, StorageError) as error:
            problem = " ".join(str(error).split())
        if problem:
            self._refuse(node, problem)
        else:
            self._admitted.add(node)
            self._refused.pop(node, None)

    def _refuse(self, node: str, why: str) -> None:
        self._refused[node] = time.monotonic(), why
        logger.warning("%s", self._complaint(node))

    def _complaint(self, node: str) -> str:
        _, why = self._refused.get(node, (0.0, f"it did not answer within {_ANSWER_S:g} s"))
        return (
            f"node {node[:8]} does not share the storage {self._address}: {why}; mount the folder there at the same "
            "path, or give the node's environment what the URL needs"
        )


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
