"""The Ray cluster: starting or joining it, leaving it, and what an autoscaler is asked for."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

import ray
from ray.autoscaler.sdk import request_resources
from ray.job_config import JobConfig

from orchestrator.engine.entrance import check_entrance
from orchestrator.ports import PoolLostError, Resources
from search_spaces.errors import InputError, ScalesweepError

T = TypeVar("T")

LOCAL = "local"
# Only small messages pass through the store; corpora and checkpoints are files. Bytes; Ray wants 75 MB.
_OBJECT_STORE_BYTES = 100 * 10**6
_ENTER_S = 15.0  # a head takes milliseconds, a host that is not there 10 s, and another program's port for ever
_DISCONNECT_S = 5.0  # Ray takes 1 s, and without a head for ever
_GIB = 2**30
KEPT = "everything recorded is kept: give the same command again when the cluster is back"


class ClusterLostError(PoolLostError):
    """The Ray cluster does not answer any more; what was recorded is kept."""


logger = logging.getLogger(__name__)


class _NoDriverPaths(JobConfig):  # type: ignore[misc]
    """Ray puts the driver's folders first on its workers' sys.path, where a user's `trainers` would hide ours."""

    def _get_proto_job_config(self) -> object:
        self._py_driver_sys_path.clear()
        return super()._get_proto_job_config()


def connect(address: str, cpus: int | None = None, gpus: int | None = None) -> bool:
    """Start Ray on this machine (`local`, with so many CPUs and GPUs) or join the cluster at an address.

    False if this process was connected already: then nothing is done. Raises InputError where there is no
    cluster at the address or it refuses our token, ScalesweepError where Ray does not come up here.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    common = {"job_config": _NoDriverPaths(), "logging_level": logging.ERROR, "log_to_driver": False}
    if address == LOCAL:
        _authenticate()
        with _own_signals():
            _start_here(num_cpus=cpus, num_gpus=gpus, **common)
        return True
    try:
        in_time(lambda: check_entrance(address), _ENTER_S, "letting us in")
        with _own_signals():
            ray.init(address=address, **common)
    except ClusterLostError as error:
        raise InputError(
            f"what listens at {address!r} does not answer as a Ray head does; give the address of the head's own port "
            "(6379 unless `ray start --head --port` said another), not the dashboard's or the client's"
        ) from error
    except (OSError, ValueError) as error:  # ConnectionError is an OSError
        raise InputError(
            f"there is no Ray cluster at {address!r} ({error}); start one with `ray start --head`, "
            "or leave the address out to use this machine alone"
        ) from error
    return True


def disconnect() -> None:
    """Leave the cluster, and end it if it was started here."""
    try:
        in_time(ray.shutdown, _DISCONNECT_S, "leaving it")
    except ClusterLostError as error:
        atexit.unregister(ray.shutdown)  # it would hang the process's end
        logger.debug("%s", error)


def demands(shape: Resources) -> dict[str, float]:
    """A worker's resources by Ray's names."""
    found = {"CPU": shape.cpus, "GPU": shape.gpus, "memory": (shape.memory_gib or 0.0) * _GIB}
    return {name: amount for name, amount in found.items() if amount}


def ask_for(shapes: Sequence[Resources]) -> None:
    """Tell an autoscaler, if there is one, for which workers the cluster should have room.

    It replaces what was asked before, by whichever driver.
    """
    labels = [dict(shape.labels) for shape in shapes]
    request_resources(bundles=[demands(shape) for shape in shapes], bundle_label_selectors=labels)


def in_time(call: Callable[[], T], seconds: float, what: str) -> T:
    """What a call to Ray returns. Raises ClusterLostError where it hangs for so long, as without a head it may."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again below
            answer.set_exception(error)

    threading.Thread(target=run, name="scalesweep-ray-call", daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError as error:
        raise ClusterLostError(
            f"the Ray cluster does not answer ({what} took more than {seconds:g} s); {KEPT}"
        ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray's SIGTERM handler ends the driver without a word: put the one that was there back."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _start_here(**options: object) -> None:
    try:
        ray.init(address=LOCAL, include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **options)
    except Exception as error:  # Ray raises no class of its own, after 30 seconds that cannot be changed
        raise ScalesweepError(
            f"Ray did not come up on this machine ({error}); see that memory and processors are not all taken, "
            "then give the same command again"
        ) from error


def _authenticate() -> None:
    """A secret for this session alone: a local Ray asks for a token, and else writes one to the user's home."""
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
