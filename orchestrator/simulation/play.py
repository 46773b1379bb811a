"""A sweep played through in this process on a planted law, before anything is spent.

The loop, the sampler and the steering are the sweep's own; only the training is not: losses come from the
synthetic trainer's law (trainers/synthetic.py), seconds from FLOP at the plan's rate.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import ParamSpec, TypeVar

from orchestrator.config import SweepFile, TrainerSection
from orchestrator.engine.simulated import SimulatedPool
from orchestrator.facts import why_ended
from orchestrator.forecasts import Forecast
from orchestrator.ledger import Ledger, Opened
from orchestrator.ports import Resources
from orchestrator.postprocess import forecast_of
from orchestrator.preview import slot_rate
from orchestrator.proposals.proposer import OptunaProposer
from orchestrator.runfolder import RunFolder, software_version
from orchestrator.simulation import outcome
from orchestrator.simulation.outcome import Simulation
from orchestrator.steering import Steering
from orchestrator.sweep import Ports, Sweep
from orchestrator.trial import Trial
from search_spaces.axis import Fixed
from search_spaces.errors import InputError, ScalesweepError
from search_spaces.plan import Search, SweepPlan
from trainers.api import CurvePoint, TrialSpec
from trainers.synthetic import SyntheticTrainer

P = ParamSpec("P")
T = TypeVar("T")

# Without a target, the outlook is for a run so many times larger than the largest scale.
LARGER = 4
# More trials than this take too long to be a preview. A guess.
MOST_TRIALS = 1000
# Slots where neither this machine nor `cluster.workers` says how many there are. A guess.
ASSUMED_SLOTS = 8


def simulate(sweep: SweepFile, measured: Mapping[int, float], progress: Callable[[int], None]) -> Simulation:
    """Play the sweep through; `measured` has FLOP per second of a slot by params, `progress` gets the ended trials.

    Raises InputError where there is nothing to search, or too much for a preview.
    """
    plan = sweep.plan()
    _check(plan)
    options = _options(sweep)
    trainer = SyntheticTrainer(options)
    pool = _pool(sweep, plan, trainer, measured)
    with tempfile.TemporaryDirectory(prefix="scalesweep-simulation-") as path:
        folder = RunFolder(Path(path))
        folder.keep(sweep.model_copy(update={"trainer": TrainerSection(name="synthetic", **options)}))
        with Ledger.open(folder.path) as ledger:
            _open(ledger, plan, trainer.version, pool.slots)
            Sweep(
                plan=plan,
                folder=folder.path,
                ledger=ledger,
                ports=_ports(sweep, folder, pool),
                trainer_version=trainer.version,
                resources=sweep.resources_of,
                steering=Steering(plan=plan, goal=sweep.goal()),
                executor=_AtOnce,
                progress=lambda: progress(sum(trial.state.ended for trial in ledger.history.trials.values())),
            ).run()
            return _outcome(sweep, folder, ledger, pool, trainer)


def _open(ledger: Ledger, plan: SweepPlan, version: str, slots: int) -> None:
    ledger.append(
        Opened(
            time=time.time(),
            sweep=plan.name,
            sweep_id="simulated",
            plan=plan.fingerprint(),
            trainer_version=version,
            software=software_version(),
            slots=slots,
        )
    )


def _ports(sweep: SweepFile, folder: RunFolder, pool: SimulatedPool) -> Ports:
    def forecast(search: Search, trials: tuple[Trial, ...]) -> Forecast:
        return forecast_of(search, trials, folder)

    proposer = OptunaProposer(sampler=sweep.sampler, seed=sweep.seed)
    return Ports(proposer=proposer, pool=pool, tracker=_Unseen(), forecast=forecast)


def _outcome(
    sweep: SweepFile, folder: RunFolder, ledger: Ledger, pool: SimulatedPool, trainer: SyntheticTrainer
) -> Simulation:
    plan, history, law = sweep.plan(), ledger.history, trainer.options.law
    target = target_of(sweep)
    found = outcome.fits(folder, list(history.trials.values()), target)
    return Simulation(
        target=target,
        wanted=sweep.target is not None,
        slots=pool.slots,
        seconds=pool.clock_s,
        planned_flops=float(plan.flops()),
        searches=outcome.shares(plan, history),
        course=tuple(outcome.course(plan, history, target)),
        fits=found,
        planted=outcome.planted(law, target),
        regret=outcome.true_regret(law, target, found.prediction),
        stopped=why_ended(history),
        outside=tuple(outcome.outside(plan, law)),
    )


def target_of(sweep: SweepFile) -> tuple[float, float]:
    """The sweep's target (params, tokens), or LARGER times its largest scale at its longest tokens_per_param."""
    wanted = sweep.goal().target
    params = float(LARGER * sweep.scales()[-1].params)
    return wanted or (params, params * max(sweep.tokens_per_param))


def _check(plan: SweepPlan) -> None:
    if all(isinstance(axis, Fixed) for axis in plan.searches[0].space.axes().values()):
        raise InputError(
            "every setting of the space is fixed, so --simulate has no search to play through; give a range, "
            "such as space: {learning_rate: {low: 3e-4, high: 3e-2}}"
        )
    if plan.trials > MOST_TRIALS:
        raise InputError(
            f"the plan has {plan.trials:,} trials, and --simulate plays through {MOST_TRIALS:,} at most; "
            "try it with fewer, such as --set trials=16"
        )


def _options(sweep: SweepFile) -> dict[str, object]:
    """The synthetic trainer's options: the sweep's own where it is its trainer, the defaults else."""
    reference = sweep.trainer_ref()
    given = dict(reference.options) if reference.name == "synthetic" else {}
    return given | {"seconds_per_trial": 0.0}


def _pool(sweep: SweepFile, plan: SweepPlan, trainer: SyntheticTrainer, measured: Mapping[int, float]) -> SimulatedPool:
    smallest = sweep.resources_of(plan.scales[0].name)
    rates = {
        search.cell.scale.name: slot_rate(search, sweep.resources_of(search.cell.scale.name), measured)
        for search in plan.searches
    }

    def seconds(spec: TrialSpec) -> float:
        return spec.scale.flops_per_token() * spec.tokens / rates[spec.scale.name]

    return SimulatedPool(trainer=trainer, slots=_slots(sweep, smallest), smallest=smallest, seconds=seconds)


def _slots(sweep: SweepFile, smallest: Resources) -> int:
    if sweep.cluster.workers:
        return sweep.cluster.workers
    if sweep.cluster.address == "auto" or smallest.gpus or not smallest.cpus:
        return ASSUMED_SLOTS
    return max(1, int((os.cpu_count() or 1) / smallest.cpus))


class _AtOnce(Executor):
    """Makes forecasts while the simulated clock stands still."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Do it now."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except ScalesweepError as error:
            future.set_exception(error)
        return future


class _Unseen:
    """A tracker that keeps nothing; see orchestrator.ports.Tracker."""

    url = "nowhere"
    pending = 0

    def trial_changed(self, trial: Trial, search: Search) -> None:
        """Nobody looks."""

    def points(self, key: str, points: Sequence[CurvePoint]) -> None:
        """Nobody looks."""

    def regrets(self, regrets: Mapping[str, float]) -> None:
        """Nobody looks."""

    def facts(self, tags: Mapping[str, str]) -> None:
        """Nobody looks."""

    def summarise(self, note: str, metrics: Mapping[str, float], artifacts: Sequence[Path]) -> None:
        """Nobody looks."""

    def close(self, timeout_s: float) -> bool:
        """Nothing is left to deliver."""
        return True
