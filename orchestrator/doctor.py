"""Checks what a sweep needs of this machine, and says of each thing what is wrong and what to do."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from search_spaces.errors import ScalesweepError

# A run folder of a few hundred small trials takes less; checkpoints of large ones take more. A guess.
_FREE_DISK_GIB = 2.0
_OLDEST_PYTHON = (3, 11)
_PACKAGES = ("ray", "torch", "transformers", "optuna", "mlflow")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was seen, and what to do where it is wrong."""

    what: str
    seen: str
    remedy: str = ""  # empty: all is well


def examine(sweep: str | None, write: Callable[[str], object]) -> int:
    """Print a line for each check; returns 0 where all is well and 1 where something is wrong."""
    wrong = 0
    for finding in _findings(sweep):
        wrong += bool(finding.remedy)
        write(f"{'WRONG' if finding.remedy else 'ok':<6}{finding.what:<14}{finding.seen}\n")
        if finding.remedy:
            write(f"{'':<6}{'':<14}-> {finding.remedy}\n")
    write(f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong\n" if wrong else "all is well\n")
    return 1 if wrong else 0


def _findings(sweep: str | None) -> Iterator[Finding]:
    yield _python()
    yield from map(_package, _PACKAGES)
    yield _guarded("devices", _accelerators)
    yield _disk()
    yield _guarded("ray", _ray)
    yield _guarded("mlflow store", _store)
    if sweep is not None:
        yield _guarded("sweep", lambda: _sweep(sweep))


def _guarded(what: str, check: Callable[[], Finding]) -> Finding:
    """A check of somebody else's software: whatever it raises is a finding, not the doctor's end."""
    try:
        return check()
    except ScalesweepError as error:
        return Finding(what, "not usable", str(error))
    except Exception as error:  # noqa: BLE001 - see above
        return Finding(what, f"{type(error).__name__}: {error}", "the installation may be broken: run `make install`")


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


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    scarce = free < _FREE_DISK_GIB
    return Finding("disk", f"{free:.1f} GiB free here", "free some space, or use --dir elsewhere" if scarce else "")


def _ray() -> Finding:
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


def _sweep(sweep: str) -> Finding:
    from orchestrator import config, launch
    from orchestrator.progress import Quiet

    loaded = config.load(sweep)
    plan = loaded.plan()
    launch.prepare(loaded, Quiet())
    return Finding("sweep", f"{plan.name}: {plan.trials} trials over {len(plan.scales)} scales, corpus ready")
