"""Checks what a sweep needs of this machine, its stores, its cluster; says what is wrong with a remedy."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from orchestrator import checks
from orchestrator.checks import Finding, guarded
from orchestrator.config import IN_PROCESS, LOCAL, SweepFile
from search_spaces.errors import ScalesweepError

_OLDEST_PYTHON = (3, 11)
_PACKAGES = ("ray", "torch", "transformers", "optuna", "mlflow")
# A corpus may have to be tokenised first, seconds. A guess.
_PREPARE_S = 3600.0
# Starting Ray takes 5 s, on a busy machine more; a database of MLflow's as long.
_START_S = 60.0


def examine(sweep: str | None, overrides: Sequence[str], write: Callable[[str], object]) -> int:
    """Print a line for each check; returns 0 where all is well and 1 where something is wrong."""
    wrong = 0
    for finding in _findings(sweep, overrides):
        wrong += bool(finding.remedy)
        write(f"{'WRONG' if finding.remedy else 'ok':<6}{finding.what:<14} {finding.seen}\n")
        if finding.remedy:
            write(f"{'':<6}{'':<14} -> {finding.remedy}\n")
    write(f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong\n" if wrong else "all is well\n")
    return 1 if wrong else 0


def _findings(sweep: str | None, overrides: Sequence[str]) -> Iterator[Finding]:
    yield _python()
    yield from map(_package, _PACKAGES)
    yield guarded("devices", _accelerators, _START_S)
    yield checks.disk(Path.cwd())
    if sweep is None:
        yield _guarded_ray()
        yield guarded("mlflow store", _store, _START_S)
    else:
        yield from _of_sweep(sweep, overrides)


def _of_sweep(name: str, overrides: Sequence[str]) -> Iterator[Finding]:
    """The sweep itself, its stores, and the cluster that it joins."""
    from orchestrator import config

    try:
        sweep = config.load(name, overrides)
        plan = sweep.plan()
    except ScalesweepError as error:
        yield Finding("sweep", "not usable", str(error))
        return
    yield Finding("sweep", f"{plan.name}: {plan.trials} trials over {len(plan.scales)} scales")
    versions: list[str] = []
    yield guarded("corpus", lambda: _corpus(sweep, versions), _PREPARE_S)
    yield from _of_stores(sweep)
    if sweep.cluster.address == LOCAL:
        yield _guarded_ray()
    elif sweep.cluster.address != IN_PROCESS and versions:
        try:
            yield from checks.nodes(sweep, versions[0])
        except ScalesweepError as error:
            yield Finding("cluster", "not usable", str(error))


def _of_stores(sweep: SweepFile) -> Iterator[Finding]:
    address, uri, studies = sweep.storage, sweep.tracking.uri, sweep.studies.uri
    if address is not None:
        yield guarded("storage", lambda: checks.storage(address))
    if uri is None:
        yield guarded("mlflow store", _store, _START_S)
    else:
        yield guarded("mlflow", lambda: checks.tracking(uri))
    if studies is not None:
        yield guarded("optuna", lambda: checks.studies(studies))


def _corpus(sweep: SweepFile, versions: list[str]) -> Finding:
    from orchestrator import launch
    from orchestrator.progress import Quiet

    versions.append(launch.prepare(sweep, Quiet()))
    return Finding("corpus", "ready, as far as the trainer needs one")


def _guarded_ray() -> Finding:
    """Ray is started by the main thread, which owns its signals."""
    try:
        return _ray()
    except ScalesweepError as error:
        return Finding("ray", "not usable", str(error))


def _python() -> Finding:
    seen = sys.version.split()[0]
    old = sys.version_info < _OLDEST_PYTHON
    return Finding("python", seen, "install Python 3.11 or newer" if old else "")


def _package(name: str) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", "run `make install`")


def _accelerators() -> Finding:
    from trainers.lm.device import gpu_names

    names = gpu_names()
    gpus = f"{len(names)} GPUs: {', '.join(names)}" if names else "no GPU that torch can use"
    return Finding("devices", f"{len(os.sched_getaffinity(0))} CPU cores, {gpus}")


def _ray() -> Finding:
    from orchestrator.engine.loopback import stay_on_loopback

    stay_on_loopback()
    from orchestrator.engine.pool import RayPool
    from orchestrator.ports import TrainerRef

    pool = RayPool(trainer=TrainerRef(name="synthetic"))
    try:
        pool.start()
        return Finding("ray", f"started here with {pool.slots} slots, and stopped again")
    finally:
        pool.close()


def _store() -> Finding:
    from orchestrator.tracking.store import connect, store_uri

    with tempfile.TemporaryDirectory() as folder:
        connect(store_uri(None, Path(folder))).search_experiments()
    return Finding("mlflow store", "a database was made and removed again")
