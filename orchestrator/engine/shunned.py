"""Which nodes get no new trial for a while: one that does not answer, and one where every worker dies. No ray."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from orchestrator.engine.nodes import NodeSize
from trainers.api import Cause

logger = logging.getLogger(__name__)

# Nothing is tried on the node of a worker that does not answer for so long, seconds: by then Ray knows whether it is
# alive.
_SILENT_S = 60.0
# So many attempts in a row that ended by the node's fault, of two trials at least, and the node is left out while
# others work: for so long at first and twice as long after each further one. Guesses: a trial itself has five tries.
_DEATHS = 3
_FIRST_S, _LONGEST_S = 60.0, 1800.0
# What a node does to any trial, and a trial might do to any node; and what says nothing of how its workers fare.
_OF_NODES = {Cause.WORKER_LOST, Cause.OUT_OF_HOST_MEMORY, Cause.DISK_FULL}
_NEUTRAL = {Cause.STORAGE_UNREACHABLE, Cause.NODE_LOST, Cause.PREEMPTED, Cause.DRIVER_LOST}


class Shunned:
    """What is held against each node, by its id. Times are monotonic seconds.

    A trial that kills each worker that it meets is no fault of a node's: it takes two of them in a row.
    """

    def __init__(self) -> None:
        self._silent: dict[str, float] = {}  # until when
        self._ill: dict[str, float] = {}  # until when
        self._deaths: dict[str, list[str]] = {}  # keys of the trials, since the last attempt that ended otherwise
        self._untold: list[str] = []

    def silent(self, node: str, now: float) -> None:
        """Something on the node does not answer, or died before it could."""
        self._silent[node] = now + _SILENT_S

    def ended(self, node: str, key: str, cause: Cause | None, now: float) -> None:
        """An attempt on the node ended so, None for one without a failure."""
        if cause in _NEUTRAL:
            return
        if cause not in _OF_NODES:
            self._deaths.pop(node, None)
            self._ill.pop(node, None)
            return
        deaths = self._deaths.setdefault(node, [])
        deaths.append(key)
        beyond = len(deaths) - _DEATHS
        if beyond >= 0 and len(set(deaths)) > 1:
            self._ill[node] = now + min(_LONGEST_S, _FIRST_S * 2.0 ** min(beyond, 30))
            self._untold.append(node)

    def heard(self, nodes: Mapping[str, NodeSize], now: float) -> dict[str, NodeSize]:
        """Those of the nodes that are not thought to be silent."""
        return {node: size for node, size in nodes.items() if self._silent.get(node, now) <= now}

    def ill(self, nodes: Mapping[str, NodeSize], now: float) -> frozenset[str]:
        """Those of the nodes where workers die. Where all of them are, it is not the nodes, and they are forgiven."""
        found = frozenset(node for node in nodes if self._ill.get(node, now) > now)
        if found and len(found) == len(nodes):
            self._ill.clear()
            self._deaths.clear()
            return frozenset()
        return found

    def warn(self, name: Callable[[str], str], now: float) -> None:
        """Say of each node that is newly left out which it is, and for how long."""
        for node in dict.fromkeys(self._untold):
            if node in self._ill:
                logger.warning(
                    "node %s gets no trial for %.0f s that another node can hold: %d attempts in a row ended there %s",
                    *(name(node), self._ill[node] - now, len(self._deaths[node])),
                    "with a lost worker, no memory or a full disk; see Ray's logs and the memory and disk there",
                )
        self._untold.clear()
