"""Which worker serves which request: bookkeeping only, no ray.

A worker has one shape (its Resources) on one node for as long as it lives. Capacity that idle workers of
other shapes occupy counts as free: they are retired when it is wanted. A shape that was refused is waiting
until it is granted or not asked for during HOLD_LAPSES_S; a node is held for each waiting shape, and
nothing smaller starts there, so that large trials are not starved by small ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.ports import Resources
from search_spaces.errors import InputError

# The sweep's loop asks about once a second for what it has waiting; ten are a guess.
HOLD_LAPSES_S = 10.0
_EPSILON = 1e-6  # shares of a device are decimal fractions: ten of 0.1 must make one


@dataclass(frozen=True, kw_only=True)
class NodeSize:
    """What a node has in all. memory_gib is None where it is not known."""

    cpus: float
    gpus: int
    memory_gib: float | None = None

    def holds(self, wanted: Resources) -> bool:
        """Whether an empty node of this size could run it."""
        memory = wanted.memory_gib is None or self.memory_gib is None or wanted.memory_gib <= self.memory_gib
        return wanted.cpus <= self.cpus + _EPSILON and wanted.gpus <= self.gpus + _EPSILON and memory

    def __str__(self) -> str:
        memory = "" if self.memory_gib is None else f", memory_gib: {self.memory_gib:.1f}"
        return f"cpus: {self.cpus:g}, gpus: {self.gpus}{memory}"


def check_fits(resources: Mapping[str, Resources], nodes: Iterable[NodeSize]) -> None:
    """Raises InputError naming the first scale whose resources are no request or fit no node."""
    nodes = list(nodes)
    for scale, wanted in resources.items():
        _check_request(scale, wanted)
        if not any(node.holds(wanted) for node in nodes):
            largest = max(nodes, key=lambda node: (node.gpus, node.cpus), default="no node at all")
            raise InputError(
                f"resources of scale {scale!r}: one trial wants {describe(wanted)}; the largest node has "
                f"{largest}; lower the request or add a larger node"
            )


def _check_request(scale: str, wanted: Resources) -> None:
    if wanted.cpus < 0 or wanted.gpus < 0 or (wanted.gpus > 1 and wanted.gpus != int(wanted.gpus)):
        raise InputError(
            f"resources of scale {scale!r}: {describe(wanted)}; none may be below 0, and gpus must be "
            "a fraction up to 1 or a whole number"
        )


def describe(wanted: Resources) -> str:
    """The request as it stands in a sweep file."""
    memory = "" if wanted.memory_gib is None else f", memory_gib: {wanted.memory_gib:g}"
    return f"cpus: {wanted.cpus:g}, gpus: {wanted.gpus:g}{memory}"
