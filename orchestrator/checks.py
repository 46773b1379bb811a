"""What a sweep needs, tried out: on the driver's machine, and by a worker of every node."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orchestrator.config import IN_PROCESS, LOCAL, SweepFile
from orchestrator.courier import StoreUnreachable
from search_spaces.errors import InputError, ScalesweepError
from trainers.masking import masked

# A run folder of a few hundred small trials takes less; checkpoints of large ones take more. A guess.
FREE_DISK_GIB = 2.0
# A check that takes longer than this hangs, seconds; a guess. Ray takes 22 to refuse a wrong token, importing
# torch on a busy node as long.
PATIENCE_S = 20.0
NODE_PATIENCE_S = 60.0
# Clocks this far apart make times of the record misleading, seconds; and what asking a node may take. Guesses.
_CLOCK_S = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was seen, and what to do where it is wrong."""

    what: str
    seen: str
    remedy: str = ""  # empty: all is well


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """What one node sees. `clock` is seconds since 1970; problems are empty where all is well."""

    clock: float
    free_gib: float
    storage: str
    trainer: str
    stores: str


def guarded(what: str, check: Callable[[], Finding], timeout_s: float = PATIENCE_S) -> Finding:
    """A check of somebody else's software: whatever it raises, or that it hangs, is a finding."""
    answer: Future[Finding] = Future()

    def run() -> None:
        try:
            answer.set_result(check())
        except BaseException as error:  # noqa: BLE001 - raised again below
            answer.set_exception(error)

    threading.Thread(target=run, name=f"doctor-{what}", daemon=True).start()
    try:
        return answer.result(timeout_s)
    except TimeoutError:
        return Finding(what, f"no answer within {timeout_s:g} s", "see whether it runs, and what stands between")
    except ScalesweepError as error:
        return Finding(what, "not usable", masked(str(error)))
    except Exception as error:  # noqa: BLE001 - see above
        seen = masked(" ".join(str(error).split()))
        return Finding(what, f"{type(error).__name__}: {seen}", "the installation may be broken: run `make install`")


def disk(folder: Path) -> Finding:
    """Room for run folders."""
    free = shutil.disk_usage(folder).free / 2**30
    scarce = free < FREE_DISK_GIB
    return Finding("disk", f"{free:.1f} GiB free here", "free some space, or use --dir elsewhere" if scarce else "")


def tracking(uri: str) -> Finding:
    """Whether MLflow answers, lets us in, and lets us write: an experiment is made and removed."""
    from orchestrator.tracking import access
    from orchestrator.tracking.store import connect

    access.check(uri)
    client = connect(uri)
    made = client.create_experiment(f"scalesweep doctor {uuid.uuid4().hex[:8]}")
    client.delete_experiment(made)
    return Finding("mlflow", f"{masked(uri)}{access.version(uri)}: lets us in and write")


def studies(uri: str) -> Finding:
    """Whether the Optuna database answers and lets us write: a study is made and removed."""
    from orchestrator.proposals import mirror

    mirror.check(uri)
    mirror.try_out(uri, f"scalesweep doctor {uuid.uuid4().hex[:8]}")
    return Finding("optuna", f"{masked(uri)}: lets us in and write, schema in place")


def storage(address: str) -> Finding:
    """Whether storage gives back what is written to it."""
    from orchestrator.storage.nonce import check_here

    check_here(address)
    return Finding("storage", f"{address}: written and read back")


def node_view(sweep: SweepFile, version: str, nonce: str | None) -> NodeView:
    """Runs on a node, as a worker would."""
    return NodeView(
        clock=time.time(),
        free_gib=shutil.disk_usage(Path.cwd()).free / 2**30,
        storage=_problem(lambda: _answer(sweep, nonce)),
        trainer=_problem(lambda: _check_trainer(sweep, version)),
        stores=_problem(lambda: _reach(sweep)),
    )


def nodes(sweep: SweepFile, version: str) -> Iterator[Finding]:
    """Each node of the cluster that the sweep joins. Nothing where it starts Ray itself, on this machine."""
    if sweep.cluster.address in {LOCAL, IN_PROCESS}:
        return
    from orchestrator.engine.everywhere import on_every_node
    from orchestrator.storage.nonce import Nonce
    from orchestrator.storage.store import open_store

    nonce = Nonce(open_store(sweep.storage)) if sweep.storage else None
    if nonce:
        nonce.ask()
    name = nonce.name if nonce else None
    began = time.time()
    try:
        look = partial(node_view, sweep, version, name)
        answers = on_every_node(look, sweep.cluster.address, NODE_PATIENCE_S)
        ended = time.time()
        yield Finding("cluster", f"{sweep.cluster.address}: {len(answers)} nodes")
        for node, answer in answers.items():
            what = f"node {answer.host}"
            if answer.result is None:
                yield Finding(what, masked(answer.problem), f"see the logs of node {node[:8]}, and what its image has")
            else:
                yield _of_node(what, answer.result, began, ended)
    finally:
        if nonce:
            nonce.forget()


def _of_node(what: str, view: NodeView, began: float, ended: float) -> Finding:
    """The first thing that is wrong with a node."""
    apart = max(began - view.clock, view.clock - ended, 0.0)
    if view.storage:
        return Finding(what, f"storage: {view.storage}", "mount the folder at the same path, or give the URL's secrets")
    if view.trainer:
        return Finding(what, f"trainer: {view.trainer}", "let the node see the corpus and the same code as the driver")
    if apart > _CLOCK_S:
        return Finding(what, f"its clock is {apart:.0f} s off", "let both machines set their clocks by NTP")
    if view.free_gib < FREE_DISK_GIB:
        return Finding(what, f"{view.free_gib:.1f} GiB of disk free", "free some space there")
    seen = f"{view.free_gib:.1f} GiB free, storage and trainer as here"
    # Only the driver writes to the stores; it may be started on this node next time.
    return Finding(what, f"{seen}; stores from there: {view.stores or 'reachable'}")


def _problem(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception as error:  # noqa: BLE001 - whatever it is, the person at the driver is to read it
        return masked(" ".join(f"{type(error).__name__}: {error}".split()))
    return ""


def _answer(sweep: SweepFile, nonce: str | None) -> None:
    from orchestrator.storage.nonce import answer

    if sweep.storage and nonce:
        answer(sweep.storage, nonce, uuid.uuid4().hex)


def _check_trainer(sweep: SweepFile, version: str) -> None:
    from trainers.registry import build

    reference = sweep.trainer_ref()
    here = build(reference.name, reference.options).version
    if here != version:
        raise InputError(f"its trainer or corpus is {here}, the driver's {version}")


def _reach(sweep: SweepFile) -> None:
    from orchestrator.proposals import mirror
    from orchestrator.tracking import access

    try:
        if sweep.tracking.uri:
            access.check(sweep.tracking.uri)
        if sweep.studies.uri:
            mirror.check(sweep.studies.uri)
    except StoreUnreachable as error:
        raise InputError(str(error)) from error
