"""Which nodes can build the trainer: a node where it cannot be is left out while others work. No ray."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from orchestrator.engine.nodes import NodeSize
from search_spaces.errors import ScalesweepError

logger = logging.getLogger(__name__)

# Nodes that cannot build the trainer are alone for so long before it is the sweep's error, seconds. The others may
# only be joining anew, which takes them two minutes after a head was lost. A guess.
_ALONE_S = 300.0


class Fitness:
    """What is known of each node, by its id: a node that joins anew has another id, and is tried again."""

    def __init__(self) -> None:
        self._proven: set[str] = set()
        self._unfit: dict[str, ScalesweepError] = {}
        self._untold: list[str] = []
        self._alone_since: float | None = None  # monotonic seconds

    def proved(self, node: str) -> None:
        """A worker there has built its trainer."""
        if node not in self._unfit:
            self._proven.add(node)

    def failed(self, node: str, error: ScalesweepError) -> None:
        """A worker there could not, for this reason."""
        self._proven.discard(node)
        if node not in self._unfit:
            self._untold.append(node)
            self._unfit[node] = error

    def proven(self, nodes: Mapping[str, NodeSize]) -> dict[str, NodeSize]:
        """Those of the nodes where a worker has built its trainer."""
        return {node: size for node, size in nodes.items() if node in self._proven}

    def untried(self, nodes: Mapping[str, NodeSize]) -> dict[str, NodeSize]:
        """Those of the nodes where it is not known yet."""
        return {node: size for node, size in nodes.items() if node not in self._proven and node not in self._unfit}

    def raise_reason(self) -> None:
        """Raises why the first node that could not, could not; nothing where there is none."""
        for error in self._unfit.values():
            raise error

    def warn(self, name: Callable[[str], str]) -> None:
        """Say once of each node that is left out which it is, and why."""
        for node in self._untold:
            reason = str(self._unfit[node]).strip().splitlines()[-1]
            logger.warning("node %s is left out: the trainer cannot be built there: %s", name(node), reason)
        self._untold.clear()

    def check(self, nodes: Mapping[str, NodeSize], now: float) -> None:
        """Raises the reason where for minutes (of monotonic seconds) only such nodes were there as cannot build it."""
        unfit = [node for node in nodes if node in self._unfit]
        if not unfit or len(unfit) < len(nodes):
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since > _ALONE_S:
            raise self._unfit[unfit[0]]
