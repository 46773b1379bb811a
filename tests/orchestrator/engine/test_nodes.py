"""What is said of a request that no node can ever serve."""

from __future__ import annotations

import pytest

from orchestrator.engine.nodes import NodeSize, check_fits
from orchestrator.ports import Resources
from search_spaces.errors import InputError

SPOT = NodeSize(cpus=16, gpus=8, memory_gib=64, labels={"ray.io/market-type": "spot"})
NODES = [NodeSize(cpus=0, memory_gib=4), SPOT, SPOT, NodeSize(cpus=32)]


def test_the_scale_and_every_type_of_node_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        check_fits({"s1": Resources(gpus=8), "s9": Resources(gpus=16)}, NODES)
    assert str(caught.value) == (
        "resources of scale 's9': one trial wants cpus: 1, gpus: 16; the nodes are 2 with cpus: 16, gpus: 8, "
        "memory_gib: 64.0, labels: {ray.io/market-type: spot}; 1 with cpus: 32, gpus: 0; 1 with cpus: 0, gpus: 0, "
        "memory_gib: 4.0; lower the request or add a node that has it"
    )


def test_a_label_that_no_large_enough_node_carries_is_refused() -> None:
    check_fits({"s1": Resources(labels={"ray.io/market-type": "spot"})}, NODES)
    with pytest.raises(InputError, match=r"wants cpus: 32, gpus: 0, labels: \{ray.io/market-type: spot\}"):
        check_fits({"s1": Resources(cpus=32, labels={"ray.io/market-type": "spot"})}, NODES)


def test_without_nodes_there_is_a_word() -> None:
    with pytest.raises(InputError, match="there is no node that takes work"):
        check_fits({"s1": Resources()}, [])
