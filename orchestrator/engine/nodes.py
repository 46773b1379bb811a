"""What a node has, what is free on it, and whether a request fits: no ray."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from orchestrator.ports import Resources
from search_spaces.errors import InputError

_EPSILON = 1e-6  # shares are decimal fractions: ten of 0.1 must make one


@dataclass(frozen=True, kw_only=True)
class NodeSize:
    """What a node has in all, and its labels. memory_gib is None where it is not counted."""

    cpus: float
    gpus: int = 0
    memory_gib: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def holds(self, wanted: Resources) -> bool:
        """Whether the node could run it if nothing else ran there."""
        carries = all(self.labels.get(key) == value for key, value in wanted.labels.items())
        return carries and Free.of(self).fits(wanted)

    def __str__(self) -> str:
        memory = "" if self.memory_gib is None else f", memory_gib: {self.memory_gib:.1f}"
        return f"cpus: {self.cpus:g}, gpus: {self.gpus}{memory}{_labels(self.labels)}"


@dataclass(kw_only=True)
class Free:
    """What is left on a node; `gpus` has the free share of each device."""

    cpus: float
    gpus: list[float]
    memory_gib: float

    @classmethod
    def of(cls, size: NodeSize) -> Self:
        """All of an empty node."""
        memory = math.inf if size.memory_gib is None else size.memory_gib
        return cls(cpus=size.cpus, gpus=[1.0] * size.gpus, memory_gib=memory)

    @property
    def rank(self) -> tuple[float, ...]:
        """Orders nodes by how much is free."""
        return sum(self.gpus), self.cpus, self.memory_gib

    def fits(self, wanted: Resources) -> bool:
        """Whether there is room."""
        return (
            wanted.cpus <= self.cpus + _EPSILON
            and (wanted.memory_gib or 0.0) <= self.memory_gib + _EPSILON
            and (wanted.gpus == 0 or bool(self.gpus_for(wanted)))
        )

    def gpus_for(self, wanted: Resources) -> tuple[int, ...]:
        """The devices that it would get, as Ray chooses them: whole ones, or the fullest with the share left."""
        if 0 < wanted.gpus < 1:
            shared = [i for i, share in enumerate(self.gpus) if share >= wanted.gpus - _EPSILON]
            return (min(shared, key=lambda i: self.gpus[i]),) if shared else ()
        whole = tuple(i for i, share in enumerate(self.gpus) if share >= 1 - _EPSILON)
        return whole[: int(wanted.gpus)] if len(whole) >= wanted.gpus else ()

    def take(self, shape: Resources, gpus: Iterable[int]) -> None:
        """Occupy what a worker of this shape has."""
        self.cpus -= shape.cpus
        self.memory_gib -= shape.memory_gib or 0.0
        for device in gpus:
            self.gpus[device] -= min(shape.gpus, 1.0)


def size_of(shape: Resources) -> tuple[float, ...]:
    """Orders shapes by how hard they are to place."""
    return shape.gpus, shape.cpus, shape.memory_gib or 0.0


def check_fits(resources: Mapping[str, Resources], nodes: Iterable[NodeSize]) -> None:
    """Raises InputError naming the first scale whose resources are no request, or fit no node."""
    nodes = list(nodes)
    for scale, wanted in resources.items():
        _check_request(scale, wanted)
        if not any(node.holds(wanted) for node in nodes):
            raise InputError(
                f"resources of scale {scale!r}: one trial wants {describe(wanted)}; {_types(nodes)}; "
                "lower the request or add a node that has it"
            )


def describe(wanted: Resources) -> str:
    """The request as it stands in a sweep file."""
    memory = "" if wanted.memory_gib is None else f", memory_gib: {wanted.memory_gib:g}"
    return f"cpus: {wanted.cpus:g}, gpus: {wanted.gpus:g}{memory}{_labels(wanted.labels)}"


def _types(nodes: Iterable[NodeSize]) -> str:
    """Each type of node once, the largest first, with how many there are."""
    counts = Counter(str(node) for node in sorted(nodes, key=lambda node: (node.gpus, node.cpus), reverse=True))
    types = "; ".join(f"{count} with {size}" for size, count in counts.items())
    return f"the nodes are {types}" if types else "there is no node that takes work"


def _labels(labels: Mapping[str, str]) -> str:
    shown = ", ".join(f"{key}: {value}" for key, value in sorted(labels.items()))
    return f", labels: {{{shown}}}" if shown else ""


def _check_request(scale: str, wanted: Resources) -> None:
    parts = (wanted.cpus, wanted.gpus, wanted.memory_gib or 0.0)
    shared_and_whole = wanted.gpus > 1 and wanted.gpus != int(wanted.gpus)
    if min(parts) < 0 or max(parts) == 0 or shared_and_whole:
        raise InputError(
            f"resources of scale {scale!r}: {describe(wanted)}; give at least one above 0, none below, and gpus "
            "as a fraction up to 1 or a whole number"
        )
