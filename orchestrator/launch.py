"""Builds the adapters of a sweep, runs it to its end, and leaves laws and a report."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from orchestrator.config import SECONDS_PER_MINUTE, SweepFile
from orchestrator.engine.loopback import stay_on_loopback
from orchestrator.facts import sweep_tags
from orchestrator.forecasts import Forecast
from orchestrator.ledger import Closed, Ledger, Opened
from orchestrator.ports import PoolLostError, Tracker, WorkerPool
from orchestrator.progress import Display, duration
from orchestrator.runfolder import RunFolder, check_history, software_version
from orchestrator.status import sweep_status
from orchestrator.steering import Steering
from orchestrator.storage.driver import Recording, recording, restored
from orchestrator.storage.nonce import check_here
from orchestrator.storage.sign import Sign, refuse_if_changed
from orchestrator.stores import PATIENCE_S, check_stores
from orchestrator.stores import tracker as tracker_of
from orchestrator.sweep import UNHURRIED_S, Ending, Ports, Requests, Sweep, show_all
from orchestrator.trial import Trial, TrialState
from search_spaces.errors import InputError
from search_spaces.plan import Search, SweepPlan
from trainers.api import Prepares
from trainers.masking import masked
from trainers.registry import build

if TYPE_CHECKING:
    from orchestrator.postprocess import Outcome

# How long `scalesweep sync` waits for slow stores, seconds.
_SYNC_PATIENCE_S = 3600.0
# After SIGTERM attempts have so long to write their checkpoints, and stores to take what is left: SIGKILL comes 20 to
# 30 s after SIGTERM on most systems, and the pool needs a moment to close. Seconds.
_GRACE_S, _HURRIED_S = 10.0, 2.0


@dataclass
class Interrupts:
    """Counts Ctrl-C and SIGTERM while a sweep runs: the first asks it to leave, a second ends it.

    Before anything runs that could leave, the first one ends it, too.
    """

    count: int = 0
    terminated: bool = False  # SIGKILL follows soon
    running: bool = False

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.terminated |= number == signal.SIGTERM
        if self.count > 1 or not self.running:
            raise KeyboardInterrupt

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Take the signals over, and give them back."""
        old = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def prepare(sweep: SweepFile, display: Display) -> str:
    """Make the trainer ready for every horizon of the plan; returns its version.

    Raises InputError where the corpus cannot serve the plan.
    """
    reference = sweep.trainer_ref()
    trainer = build(reference.name, reference.options)
    if isinstance(trainer, Prepares):
        trainer.prepare([search.cell.scale for search in sweep.plan().searches], _longest(sweep.plan()), display.say)
    return trainer.version


def _longest(plan: SweepPlan) -> int:
    return max(search.cell.tokens for search in plan.searches)


def run(sweep: SweepFile, folder: Path, display: Display) -> int:
    """Run the sweep, or go on with it; returns the exit code.

    Raises InputError before anything is started where the sweep cannot be run here.
    """
    plan = sweep.plan()
    run_folder = RunFolder(folder)
    run_folder.check(sweep)
    check_stores(sweep, folder)
    store = check_here(sweep.storage) if sweep.storage else None
    before: Sign | None = None

    def restore() -> None:
        nonlocal before
        before = restored(store, folder, sweep, display.say)

    with _taken(folder, restore) as ledger:
        run_folder.forget_requests()  # those of an earlier driver; from now on `pause` finds this one
        version = prepare(sweep, display)
        check_history(ledger.history, plan, version, folder)
        closed = ledger.history.of(Closed)
        if closed and closed[-1].how != Ending.FAILED:
            display.say(f"{folder}: this sweep is {closed[-1].how}; fitting its laws and drawing its report again")
            with tracker_of(sweep, plan, folder, ledger) as tracker:
                show_all(tracker, plan, ledger.history.trials.values(), folder)
                return _finish(run_folder, ledger, tracker, Ending(closed[-1].how), display)
        interrupts = Interrupts()
        with ExitStack() as outliving:  # the pool, whose processors the laws need
            outliving.callback(display.close)
            with interrupts.caught(), _pool(sweep, plan, version) as pool:
                interrupts.running = True
                if store:
                    refuse_if_changed(store, before)
                run_folder.keep(sweep)
                opened = _open(ledger, plan, version, pool.slots)
                record = outliving.enter_context(recording(store, folder, opened.sweep_id))
                tracker = outliving.enter_context(tracker_of(sweep, plan, folder, ledger))
                display.say(f"runs and curves: {tracker.url}   (scalesweep ui {folder})")
                steering = Steering(plan=plan, goal=sweep.goal())

                def progress(steering: Steering = steering, record: Recording = record) -> None:
                    record.check()
                    display.update(sweep_status(plan, ledger.history, now=time.time(), steering=steering))

                running = Sweep(
                    plan=plan,
                    folder=folder,
                    ledger=ledger,
                    ports=_ports(sweep, run_folder, pool, tracker),
                    trainer_version=version,
                    resources=sweep.resources_of,
                    steering=steering,
                    requests=_requests(run_folder, interrupts, record),
                    storage=record.ref,
                    progress=progress,
                )
                try:
                    ending = running.run()
                except PoolLostError as lost:
                    return leave_without_pool(lost, tracker, display)
            display.close()
            if ending is Ending.PAUSED:
                tracker.close(_HURRIED_S if interrupts.terminated else PATIENCE_S)
                display.say(f"paused: everything is kept in {folder}; the same command goes on")
                return 130
            return _finish(run_folder, ledger, tracker, ending, display)


@contextmanager
def _taken(folder: Path, restore: Callable[[], None]) -> Iterator[Ledger]:
    """The folder's ledger, once `restore` has brought it up to date. A folder made for nothing is taken away."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    new = [path for name in ("ledger.jsonl", "driver.lock", "request") if not (path := folder / name).exists()]

    @contextmanager
    def cleaned() -> Iterator[None]:
        try:
            yield
        except (InputError, KeyboardInterrupt):
            ledger = folder / "ledger.jsonl"
            if not ledger.exists() or not ledger.stat().st_size:
                for path in new:
                    path.unlink(missing_ok=True)
                with suppress(OSError):  # somebody else's folder by now
                    for path in made:
                        path.rmdir()
            raise

    # While the ledger is locked: else the folder may be another driver's by then.
    with Ledger.open(folder, cleaned()(restore)) as ledger, cleaned():
        yield ledger


def _open(ledger: Ledger, plan: SweepPlan, version: str, slots: int) -> Opened:
    first = ledger.history.first_opened
    opened = Opened(
        time=time.time(),
        sweep=plan.name,
        sweep_id=first.sweep_id if first else uuid.uuid4().hex[:8],
        plan=plan.fingerprint(),
        trainer_version=version,
        software=software_version(),
        slots=slots,
    )
    ledger.append(opened)
    return opened


@contextmanager
def _pool(sweep: SweepFile, plan: SweepPlan, version: str) -> Iterator[WorkerPool]:
    """The pool, started, and checked against what the scales need."""
    trainer = replace(sweep.trainer_ref(), version=version)
    wanted = {scale.name: sweep.resources_of(scale.name) for scale in plan.scales}
    pool: WorkerPool
    if sweep.cluster.address == "in-process":
        from orchestrator.engine.local import LocalPool

        pool = LocalPool(trainer=trainer, slots=sweep.cluster.workers or os.cpu_count() or 1)
    else:
        if sweep.cluster.address == "local":
            stay_on_loopback()
        from orchestrator.engine.pool import RayPool

        pool = RayPool(
            trainer=trainer,
            address=sweep.cluster.address,
            workers=sweep.cluster.workers,
            smallest=wanted[plan.scales[0].name],
            wait_s=sweep.cluster.wait_minutes * SECONDS_PER_MINUTE,
            storage=sweep.storage,
        )
    try:
        pool.start()
        pool.check(wanted)
        yield pool
    finally:
        pool.close()


def _ports(sweep: SweepFile, folder: RunFolder, pool: WorkerPool, tracker: Tracker) -> Ports:
    from orchestrator.proposals.proposer import OptunaProposer

    def forecast(search: Search, trials: tuple[Trial, ...]) -> Forecast:
        from orchestrator.postprocess import forecast_of

        return forecast_of(search, trials, folder)

    return Ports(
        proposer=OptunaProposer(sampler=sweep.sampler, seed=sweep.seed), pool=pool, tracker=tracker, forecast=forecast
    )


def _requests(folder: RunFolder, interrupts: Interrupts, record: Recording) -> Requests:
    return Requests(
        pause=lambda: interrupts.count > 0 or folder.requested("pause") or record.requested("pause"),
        stop=lambda: folder.requested("stop") or record.requested("stop"),
        grace_s=lambda: _GRACE_S if interrupts.terminated else UNHURRIED_S,
    )


def leave_without_pool(lost: PoolLostError, tracker: Tracker, display: Display) -> int:
    """Say it before anything is closed, and close in a hurry; returns the exit code.

    Ray ends this process by itself, 60 s after it lost its head, and stores that are gone, too, may take longer.
    What they have not got is uploaded by the next start.
    """
    display.close()
    display.say(f"scalesweep: {masked(str(lost))}")
    tracker.close(_HURRIED_S)
    return 1


def _finish(folder: RunFolder, ledger: Ledger, tracker: Tracker, ending: Ending, display: Display) -> int:
    """Fit, draw, upload, and say how it ended."""
    began = time.monotonic()
    outcome = _conclude(folder, ledger, tracker)
    delivered = tracker.close(PATIENCE_S)
    display.say(outcome.text)
    display.say(f"laws and report took {duration(time.monotonic() - began)}")
    display.say(f"laws:   {folder.laws_file}\nreport: {folder.report_file}\nMLflow: scalesweep ui {folder.path}")
    if not delivered:
        display.say(f"the stores have not got everything: run `scalesweep sync {folder.path}` when they answer")
    failed = [trial for trial in ledger.history.trials.values() if trial.state is TrialState.FAILED]
    if ending is Ending.FAILED:
        display.say(f"ended early, since the same error came again and again:\n{ledger.history.of(Closed)[-1].message}")
    elif failed:
        display.say(f"{len(failed)} trials could not be completed; the last said:\n{failed[-1].message}")
    return 1 if failed or ending is Ending.FAILED else 0


def _conclude(folder: RunFolder, ledger: Ledger, tracker: Tracker) -> Outcome:
    """Fit and draw, and hand what came out to the tracker."""
    from orchestrator.postprocess import postprocess

    outcome = postprocess(folder, ledger.history)
    tracker.regrets(outcome.regrets)
    tracker.facts(sweep_tags(folder.sweep().plan(), ledger.history))
    metrics = {**outcome.metrics, **_target_metrics(folder, ledger)}
    tracker.summarise(
        outcome.note, metrics, [folder.laws_file, folder.report_file, folder.runs_file, folder.curves_file]
    )
    return outcome


def _target_metrics(folder: RunFolder, ledger: Ledger) -> dict[str, float]:
    """What is expected of the target, where there is one and it is known."""
    sweep = folder.sweep()
    known = Steering(plan=sweep.plan(), goal=sweep.goal()).known(list(ledger.history.trials.values()))
    return {"target.expected_regret": known.expected_regret} if known else {}


def synchronise(path: Path, display: Display) -> int:
    """Upload what the tracking server has not got yet; returns the exit code.

    Raises RunFolderError while a driver has the folder: it uploads by itself.
    """
    folder = RunFolder(path)
    sweep = folder.sweep()
    plan = sweep.plan()
    with Ledger.open(path) as ledger, tracker_of(sweep, plan, path, ledger) as tracker:
        show_all(tracker, plan, ledger.history.trials.values(), path)
        if ledger.history.of(Closed):
            _conclude(folder, ledger, tracker)
        delivered = tracker.close(_SYNC_PATIENCE_S)
        display.say(f"{tracker.url} has everything" if delivered else f"{tracker.pending} things are still missing")
    return 0 if delivered else 1
