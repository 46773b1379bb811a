"""The Ray cluster: starting or joining it, and what its nodes have."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Mapping

import ray
from ray.job_config import JobConfig

from orchestrator.engine.nodes import NodeSize
from search_spaces.errors import InputError, ScalesweepError

LOCAL = "local"
# Only small messages pass through the store; corpora and checkpoints are files. Bytes; Ray wants 75 MB.
_OBJECT_STORE_BYTES = 100 * 10**6
_REACH_S = 10.0
_GIB = 2**30


class _NoDriverPaths(JobConfig):  # type: ignore[misc]
    """Ray puts the driver's folders first on its workers' sys.path, where a user's `trainers` would hide ours."""

    def _get_proto_job_config(self) -> object:
        self._py_driver_sys_path.clear()
        return super()._get_proto_job_config()


def connect(address: str, cpus: int | None = None, gpus: int | None = None) -> bool:
    """Start Ray on this machine (`local`, with so many CPUs and GPUs) or join the cluster at an address.

    False if this process was connected already: then nothing is done. Raises InputError where there is no
    cluster at the address, ScalesweepError where Ray does not come up here.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    common = {"job_config": _NoDriverPaths(), "logging_level": logging.ERROR, "log_to_driver": False}
    if address == LOCAL:
        _authenticate()
        _start_here(num_cpus=cpus, num_gpus=gpus, **common)
        return True
    try:
        _reach(address)
        ray.init(address=address, **common)
    except (OSError, ValueError) as error:  # ConnectionError is an OSError
        raise InputError(
            f"there is no Ray cluster at {address!r} ({error}); start one with `ray start --head`, or leave the "
            "address out to use this machine alone"
        ) from error
    return True


def alive_nodes() -> Mapping[str, NodeSize]:
    """The nodes that take work now, by their id."""
    return {node["NodeID"]: _size(node["Resources"]) for node in ray.nodes() if node["Alive"]}


def _start_here(**options: object) -> None:
    try:
        ray.init(address=LOCAL, include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **options)
    except Exception as error:  # Ray raises no class of its own, after 30 seconds that cannot be changed
        raise ScalesweepError(
            f"Ray did not come up on this machine ({error}); see that memory and processors are not all taken, "
            "then give the same command again"
        ) from error


def _reach(address: str) -> None:
    """Raises OSError or ValueError where nobody listens at host:port; Ray itself tries for minutes."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=_REACH_S).close()


def _authenticate() -> None:
    """A secret for this session alone: a local Ray asks for a token, and else writes one to the user's home."""
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _size(resources: Mapping[str, float]) -> NodeSize:
    memory = resources.get("memory")
    return NodeSize(
        cpus=resources.get("CPU", 0.0),
        gpus=int(resources.get("GPU", 0)),
        memory_gib=None if memory is None else memory / _GIB,
    )
