"""Runs a function once on every node of the cluster."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.engine.cluster import KEPT, ClusterLostError, connect, disconnect, in_time
from orchestrator.engine.roster import ClusterView, Roster

T = TypeVar("T")

_ASK_S = 10.0  # Ray takes milliseconds, and without a head for ever


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
        view = in_time(_look, _ASK_S, "listing its nodes")
        nodes = sorted(view.nodes.keys() | view.draining)
        asked = in_time(lambda: {node: _ask(call, node) for node in nodes}, _ASK_S, "asking its nodes")
        refs = list(asked.values())
        ray.wait(refs, num_returns=len(refs), timeout=timeout_s)
        return {node: _answer(ref, view.hosts[node], timeout_s) for node, ref in asked.items()}
    finally:
        if joined:
            disconnect()


def _look() -> ClusterView:
    try:
        return Roster().look()
    except RayError as error:
        raise ClusterLostError(f"the Ray cluster does not list its nodes ({error}); {KEPT}") from error


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
