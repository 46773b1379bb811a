"""A sweep played through in this process on a planted law, before anything is spent.

The loop, the sampler and the steering are the sweep's own; only the training is not: losses come from the
synthetic trainer's law (trainers/synthetic.py), seconds from FLOP at the plan's rate.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.collect import collect
from orchestrator.config import SweepFile, TrainerSection
from orchestrator.engine.simulated import SimulatedPool
from orchestrator.goal import Goal
from orchestrator.laws.predict import Prediction, predict
from orchestrator.laws.registry import fit_laws
from orchestrator.laws.result import Estimate, FittedLaw
from orchestrator.ledger import Closed, Ended, History, Ledger, Opened, Settled
from orchestrator.ports import Resources
from orchestrator.postprocess import forecast_of
from orchestrator.preview import slot_rate
from orchestrator.proposals.proposer import OptunaProposer
from orchestrator.runfolder import RunFolder, software_version
from orchestrator.steering import Steering
from orchestrator.sweep import Forecast, Ports, Sweep
from orchestrator.trial import Reason, Trial
from search_spaces.axis import Fixed
from search_spaces.errors import InputError, ScalesweepError
from search_spaces.plan import Search, SweepPlan
from search_spaces.space import HyperParameters
from trainers.api import CurvePoint, TrialSpec
from trainers.synthetic import SyntheticLaw, SyntheticTrainer

# What is looked at on the way: parts of the FLOP that the sweep spends.
PARTS = (0.1, 0.25, 0.5, 1.0)
# Without a target, the outlook is for a run so many times larger than the largest scale.
LARGER = 4
# More trials than this take too long to be a preview. A guess.
MOST_TRIALS = 2000
# Slots where neither this machine nor `cluster.workers` says how many there are. A guess.
ASSUMED_SLOTS = 8
# The laws whose intervals are shown, and by which the target is predicted.
LAWS = ("hyperparameters", "joint", "chinchilla")


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one search got: of `planned` trials so many by each reason; `settled` says why no more."""

    name: str
    planned: int
    trials: int
    flops: float
    reasons: Mapping[Reason, int]
    settled: str


@dataclass(frozen=True, kw_only=True)
class Milestone:
    """What was known of the target once `flops` were spent. None before the first cell is known.

    `loss_error` is the relative half-width of the 95 % interval of the target's loss.
    """

    part: float
    trials: int
    flops: float
    expected_regret: float | None
    loss_error: float | None


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """A sweep that was played through.

    `planted` are the true values of what `prediction` says of the target, and `regret` what its settings
    would cost there; None where a setting was not predicted. `seconds` are those of the simulated clock.
    """

    target: tuple[float, float]
    wanted: bool  # whether the sweep file names the target
    slots: int
    seconds: float
    planned_flops: float
    searches: tuple[Share, ...]
    course: tuple[Milestone, ...]
    exponents: Mapping[str, Mapping[str, Estimate]]  # law -> exponent
    not_fitted: Mapping[str, str]
    prediction: Prediction | None
    planted: Mapping[str, float]
    regret: float | None
    stopped: str
    outside: tuple[str, ...]  # searches whose planted optimum lies outside of the space

    @property
    def trials(self) -> int:
        """Trials of all searches."""
        return sum(share.trials for share in self.searches)

    @property
    def flops(self) -> float:
        """FLOP of all trials."""
        return sum(share.flops for share in self.searches)


def simulate(
    sweep: SweepFile, measured: Mapping[int, float] | None = None, progress: Callable[[int], None] = lambda ended: None
) -> Simulation:
    """Play the sweep through; `measured` has FLOP per second of a slot by params, `progress` gets the ended trials.

    Raises InputError where there is nothing to search, or too much for a preview.
    """
    plan = sweep.plan()
    _check(plan)
    trainer = SyntheticTrainer(_options(sweep))
    with tempfile.TemporaryDirectory(prefix="scalesweep-simulation-") as path:
        folder = RunFolder(Path(path))
        section = TrainerSection(name="synthetic", **_options(sweep))
        folder.keep(sweep.model_copy(update={"trainer": section}))
        with Ledger.open(folder.path) as ledger:
            pool = _pool(sweep, plan, trainer, measured or {})
            _play(sweep, plan, folder, ledger, pool, trainer, progress)
            return _outcome(sweep, plan, folder, ledger.history, pool, trainer.options.law)


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


def _pool(
    sweep: SweepFile, plan: SweepPlan, trainer: SyntheticTrainer, measured: Mapping[int, float]
) -> SimulatedPool:
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

    def summarise(self, note: str, metrics: Mapping[str, float], artifacts: Sequence[Path]) -> None:
        """Nobody looks."""

    def close(self, timeout_s: float) -> bool:
        """Nothing is left to deliver."""
        return True
