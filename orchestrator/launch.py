"""Builds the adapters of a sweep, runs it to its end, and leaves laws and a report."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from orchestrator.config import SweepFile
from orchestrator.facts import sweep_tags
from orchestrator.forecasts import Forecast
from orchestrator.ledger import Closed, Ledger, Opened
from orchestrator.ports import Tracker, WorkerPool
from orchestrator.progress import Display, duration
from orchestrator.runfolder import RunFolder, check_history, software_version
from orchestrator.status import sweep_status
from orchestrator.steering import Steering
from orchestrator.sweep import Ending, Ports, Requests, Sweep, show_all
from orchestrator.trial import Trial, TrialState
from search_spaces.errors import InputError
from search_spaces.plan import Search, SweepPlan
from trainers.api import Prepares
from trainers.registry import build

if TYPE_CHECKING:
    from orchestrator.postprocess import Outcome

# How long the end of a sweep waits for a slow tracking server, seconds; and how long `scalesweep sync` does.
_TRACKER_PATIENCE_S = 60.0
_SYNC_PATIENCE_S = 3600.0


@dataclass
class Interrupts:
    """Counts Ctrl-C and SIGTERM while a sweep runs: the first asks it to leave, a second ends it."""

    count: int = 0

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
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


def _check_address(uri: str | None) -> None:
    """Raises InputError where MLflow knows no such store."""
    from orchestrator.tracking.store import store_uri

    store_uri(uri, Path())


def run(sweep: SweepFile, folder: Path, display: Display) -> int:
    """Run the sweep, or go on with it; returns the exit code.

    Raises InputError before anything is started where the sweep cannot be run here.
    """
    plan = sweep.plan()
    run_folder = RunFolder(folder)
    run_folder.check(sweep)
    _check_address(sweep.tracking.uri)
    version = prepare(sweep, display)
    with _taken(folder) as ledger:
        check_history(ledger.history, plan, version, folder)
        closed = ledger.history.of(Closed)
        if closed and closed[-1].how != Ending.FAILED:
            display.say(f"{folder}: this sweep is {closed[-1].how}; fitting its laws and drawing its report again")
            with _tracker(sweep, plan, run_folder, ledger) as tracker:
                show_all(tracker, plan, ledger.history.trials.values(), folder)
                return _finish(run_folder, ledger, tracker, Ending(closed[-1].how), display)
        interrupts = Interrupts()
        run_folder.forget_requests()
        with ExitStack() as outliving:  # the pool, whose processors the laws need
            outliving.callback(display.close)
            with interrupts.caught(), _pool(sweep, plan, version) as pool:
                run_folder.keep(sweep)
                _open(ledger, plan, version, pool.slots)
                tracker = outliving.enter_context(_tracker(sweep, plan, run_folder, ledger))
                display.say(f"runs and curves: {tracker.url}   (scalesweep ui {folder})")
                steering = Steering(plan=plan, goal=sweep.goal())
                ending = Sweep(
                    plan=plan,
                    folder=folder,
                    ledger=ledger,
                    ports=_ports(sweep, run_folder, pool, tracker),
                    trainer_version=version,
                    resources=sweep.resources_of,
                    steering=steering,
                    requests=_requests(run_folder, interrupts),
                    progress=lambda: display.update(
                        sweep_status(plan, ledger.history, now=time.time(), steering=steering)
                    ),
                ).run()
            display.close()
            if ending is Ending.PAUSED:
                tracker.close(_TRACKER_PATIENCE_S)
                display.say(f"paused: everything is kept in {folder}; the same command goes on")
                return 130
            return _finish(run_folder, ledger, tracker, ending, display)


@contextmanager
def _taken(folder: Path) -> Iterator[Ledger]:
    """The folder's ledger. A folder that was made for nothing, because the input is wrong, is taken away."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with Ledger.open(folder) as ledger:
        try:
            yield ledger
        except InputError:
            if made and not ledger.history.events:
                for left in ("ledger.jsonl", "driver.lock"):
                    (folder / left).unlink(missing_ok=True)
                for path in made:
                    path.rmdir()
            raise


def _open(ledger: Ledger, plan: SweepPlan, version: str, slots: int) -> None:
    first = ledger.history.first_opened
    ledger.append(
        Opened(
            time=time.time(),
            sweep=plan.name,
            sweep_id=first.sweep_id if first else uuid.uuid4().hex[:8],
            plan=plan.fingerprint(),
            trainer_version=version,
            software=software_version(),
            slots=slots,
        )
    )


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
        from orchestrator.engine.pool import RayPool

        pool = RayPool(
            trainer=trainer,
            address=sweep.cluster.address,
            workers=sweep.cluster.workers,
            smallest=wanted[plan.scales[0].name],
        )
    try:
        pool.start()
        pool.check(wanted)
        yield pool
    finally:
        pool.close()


@contextmanager
def _tracker(sweep: SweepFile, plan: SweepPlan, folder: RunFolder, ledger: Ledger) -> Iterator[Tracker]:
    """The tracker, which whoever gets it closes; an error leaves no run as running."""
    from orchestrator.tracking.uploader import MlflowTracker

    first = ledger.history.first_opened
    sweep_id = first.sweep_id if first else ""
    tracker = MlflowTracker(uri=sweep.tracking.uri, folder=folder.path, plan=plan, sweep_id=sweep_id)
    try:
        yield tracker
    except Exception:
        tracker.close(_TRACKER_PATIENCE_S)
        raise


def _ports(sweep: SweepFile, folder: RunFolder, pool: WorkerPool, tracker: Tracker) -> Ports:
    from orchestrator.proposals.proposer import OptunaProposer

    def forecast(search: Search, trials: tuple[Trial, ...]) -> Forecast:
        from orchestrator.postprocess import forecast_of

        return forecast_of(search, trials, folder)

    return Ports(
        proposer=OptunaProposer(sampler=sweep.sampler, seed=sweep.seed), pool=pool, tracker=tracker, forecast=forecast
    )


def _requests(folder: RunFolder, interrupts: Interrupts) -> Requests:
    return Requests(
        pause=lambda: interrupts.count > 0 or folder.requested("pause"), stop=lambda: folder.requested("stop")
    )


def _finish(folder: RunFolder, ledger: Ledger, tracker: Tracker, ending: Ending, display: Display) -> int:
    """Fit, draw, upload, and say how it ended."""
    began = time.monotonic()
    outcome = _conclude(folder, ledger, tracker)
    delivered = tracker.close(_TRACKER_PATIENCE_S)
    display.say(outcome.text)
    display.say(f"laws and report took {duration(time.monotonic() - began)}")
    display.say(f"laws:   {folder.laws_file}\nreport: {folder.report_file}\nMLflow: scalesweep ui {folder.path}")
    if not delivered:
        display.say(f"the tracking server has not got everything: run `scalesweep sync {folder.path}` when it answers")
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
    with Ledger.open(path) as ledger, _tracker(sweep, plan, folder, ledger) as tracker:
        show_all(tracker, plan, ledger.history.trials.values(), path)
        if ledger.history.of(Closed):
            _conclude(folder, ledger, tracker)
        delivered = tracker.close(_SYNC_PATIENCE_S)
        display.say(f"{tracker.url} has everything" if delivered else f"{tracker.pending} things are still missing")
    return 0 if delivered else 1
