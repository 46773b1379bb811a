"""Runs a function once on every node of the cluster."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.engine.cluster import connect, disconnect, in_time

T = TypeVar("T")

_LOOK_S = 10.0  # Ray lists its nodes in milliseconds, and without a head never


@dataclass(frozen=True, kw_only=True)
class Answer(Generic[T]):
    """What one node returned, or why it did not."""

    host: str
    result: T | None
    problem: str = ""


def on_every_node(call: Callable[[], T], address: str, timeout_s: float) -> Mapping[str, Answer[T]]:
    """Answers by node id, each within the time. `call` must be importable on the nodes and return plain data.

    Raises InputError where the cluster cannot be joined, ClusterLostError where it does not answer.
    """
    joined = connect(address)
    try:
        nodes = in_time(ray.nodes, _LOOK_S, "listing its nodes")
        asked = {node["NodeID"]: _ask(call, node["NodeID"]) for node in nodes if node["Alive"]}
        hosts = {node["NodeID"]: str(node["NodeManagerHostname"]) for node in nodes}
        refs = list(asked.values())
        ray.wait(refs, num_returns=len(refs), timeout=timeout_s)
        return {node: _answer(ref, hosts[node], timeout_s) for node, ref in asked.items()}
    finally:
        if joined:
            disconnect()


def _ask(call: Callable[[], T], node: str) -> ray.ObjectRef:
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=where)(_named).remote(call)


def _named(call: Callable[[], T]) -> tuple[str, T]:
    return socket.gethostname(), call()


def _answer(ref: ray.ObjectRef, host: str, timeout_s: float) -> Answer[T]:
    try:
        named, result = ray.get(ref, timeout=0)
    except GetTimeoutError:
        return Answer(host=host, result=None, problem=f"no answer within {timeout_s:g} s")
    except RayError as error:
        return Answer(host=host, result=None, problem=(str(error).strip().splitlines() or ["it failed"])[-1])
    return Answer(host=named, result=result)
