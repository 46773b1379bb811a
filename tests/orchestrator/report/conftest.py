"""A planted sweep, run by the synthetic trainer and fitted by the real laws: what a page is drawn from."""

from __future__ import annotations

import math
import random
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.laws.predict import Context, predict
from orchestrator.laws.records import RunRecord
from orchestrator.laws.registry import fit_laws
from orchestrator.report.data import Advice, Backtest, ReportData
from orchestrator.trial import Proposal, Reason, Trial, TrialState, spec_of, trial_key
from search_spaces.axis import LogUniform, OneMinusLog, PowersOfTwo
from search_spaces.ladders import LADDERS
from search_spaces.plan import Schedule, Search, SweepPlan, plan_searches
from search_spaces.space import HyperParameters, SearchSpace
from trainers.api import Cause, CurvePoint, TrialResult
from trainers.synthetic import SyntheticTrainer

SPACE = SearchSpace(
    learning_rate=LogUniform(low=2e-3, high=0.5),
    batch_size=PowersOfTwo(low=2, high=32),
    beta2=OneMinusLog(low=0.8, high=0.999),
)
STARTED = 1.7e9


class CollectingSession:
    """A session that keeps the points; nothing is ever stopped."""

    attempt = 1

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.points: list[CurvePoint] = []

    def emit(self, point: CurvePoint) -> None:
        if math.isfinite(point.loss):
            self.points.append(point)

    def should_stop(self) -> bool:
        return False

    def resumed_at(self, tokens: int) -> None:
        pass


def planted_plan(scales: int) -> SweepPlan:
    searches = [
        search
        for scale in LADDERS["evening"][:scales]
        for search in plan_searches(
            scale=scale, space=SPACE, tokens_per_param=(0.5, 2, 8, 32), trials=20, schedule=Schedule.CONSTANT, seeds=2
        )
    ]
    searches[-1] = replace(searches[-1], held_out=True)
    return SweepPlan(name="planted", searches=tuple(searches), schedule=Schedule.CONSTANT)


def proposals(search: Search, trainer: SyntheticTrainer, dice: random.Random) -> list[Proposal]:
    """Three random points, then ever closer to the planted optimum, as a sampler that learns would go."""
    best = trainer.options.law.optimum(search.cell.scale.params, search.cell.tokens)
    found = []
    for number in range(search.planned_trials):
        width = 0.5 if number < 3 else 0.16
        centre = (
            SPACE.centre
            if number < 3
            else SPACE.at(
                {
                    "learning_rate": best.learning_rate,
                    "batch_size": best.batch_tokens / search.cell.scale.sequence_length,
                    "beta2": 2 ** (-best.batch_tokens / best.beta2_half_life),
                }
            )
        )
        drawn = {
            name: axis.value(axis.coordinate(getattr(centre, name)) + dice.gauss(0, width) * axis.span)
            for name, axis in SPACE.axes().items()
        }
        reason = Reason.START_UP if number < 3 else Reason.MODEL
        if number >= search.trials and found:
            found.append(Proposal(settings=found[-1].settings, reason=Reason.REPLICATE))
        else:
            found.append(
                Proposal(settings=HyperParameters(**drawn | {"batch_size": int(drawn["batch_size"])}), reason=reason)
            )
    return found


def train(trial: Trial, search: Search, trainer: SyntheticTrainer) -> tuple[Trial, list[CurvePoint]]:
    """The trial ended, and its curve."""
    with tempfile.TemporaryDirectory() as workspace:
        session = CollectingSession(Path(workspace))
        trainer.train(spec_of(trial, search), session)
    complete = bool(session.points) and session.points[-1].tokens == search.cell.tokens
    result = TrialResult(
        final_loss=session.points[-1].loss if session.points else None,
        diverged=not complete,
        tokens=search.cell.tokens,
        seconds=60.0,
    )
    state = TrialState.COMPLETED if complete else TrialState.DIVERGED
    started = trial.moved(TrialState.RUNNING, attempt=1, started_at=STARTED)
    return started.moved(state, result=result, ended_at=STARTED + 60), session.points


def planted_sweep(scales: int = 5, title: str = "planted") -> ReportData:
    """A whole sweep's trials, curves and records; one trial failed for want of memory."""
    plan, trainer, dice = (
        planted_plan(scales),
        SyntheticTrainer({"noise_sd": 0.004, "divergence_multiple": 5.0}),
        random.Random(1),
    )
    trials, curves = [], {}
    for search in plan.searches:
        for seed, proposal in enumerate(proposals(search, trainer, dice)):
            key = trial_key(
                search=search,
                settings=proposal.settings,
                seed=seed,
                trainer_version=trainer.version,
            )
            trial = Trial(
                key=key, number=len(trials), scale=search.cell.scale.name, tokens=search.cell.tokens,
                settings=proposal.settings, seed=seed, reason=proposal.reason, proposed_at=STARTED,
            )  # fmt: skip
            ended, points = train(trial, search, trainer)
            trials.append(ended)
            curves[key] = points
    trials[2], curves[trials[2].key] = failed(trials[2]), []
    return fitted(title, plan, trials, curves)


def failed(trial: Trial) -> Trial:
    return replace(
        trial, state=TrialState.FAILED, cause=Cause.OUT_OF_DEVICE_MEMORY, failures={Cause.OUT_OF_DEVICE_MEMORY: 2},
        message="tried to allocate 2 GiB", result=None,
    )  # fmt: skip


def records_of(
    plan: SweepPlan, trials: list[Trial], curves: dict[str, list[CurvePoint]], *, whole: bool
) -> list[RunRecord]:
    """The ends of cells, or the whole curves."""
    found = []
    for trial in trials:
        search = plan.search_of(trial.scale, trial.tokens)
        scale = search.cell.scale
        known = {
            "run_id": trial.key, "params": scale.params, "non_embedding_params": scale.non_embedding_params,
            "learning_rate": trial.settings.learning_rate, "beta2": trial.settings.beta2, "seed": trial.seed,
            "batch_tokens": trial.settings.batch_size * scale.sequence_length, "schedule": "constant",
        }  # fmt: skip
        if trial.state is not TrialState.COMPLETED:
            found.append(RunRecord(tokens=trial.tokens, status=trial.state.value, **known))
            continue
        cells = {cell.tokens for cell in search.serves}
        found += [
            RunRecord(tokens=point.tokens, loss=point.loss, flops=6.0 * scale.params * point.tokens, **known)
            for point in curves[trial.key]
            if whole or point.tokens in cells
        ]
    return found


def fitted(title: str, plan: SweepPlan, trials: list[Trial], curves: dict[str, list[CurvePoint]]) -> ReportData:
    """The report of these trials, with laws by the real fits and what they say of twice the largest scale."""
    records, points = (records_of(plan, trials, curves, whole=whole) for whole in (False, True))
    report = fit_laws(records, curves=points, draws=60)
    context = Context(
        sequence_length=plan.scales[-1].sequence_length, vocab_size=plan.scales[-1].vocab_size,
        schedule="constant", tokens_per_param=(0.5, 32.0), corpus="a planted law", noise_sd=0.004, version="0",
    )  # fmt: skip
    cell = plan.searches[-1].cell
    said = predict(report.laws, context, params=2.0 * cell.scale.params, tokens=2.0 * cell.tokens)
    written = predict(report.laws, context, params=float(cell.scale.params), tokens=float(cell.tokens))
    measured = {name: written.value(name) * 1.05 for name in ("loss", "learning_rate")} | {"best_loss": 3.0}
    return ReportData(
        title=title, context=context, records=records, points=points, laws=report.laws, not_fitted=report.not_fitted,
        advice=(Advice(title="2 times the largest scale", prediction=said),),
        backtests=(
            Backtest(
                cell=cell.name, written_at=STARTED, prediction=written, runs_used=80, measured=measured, regret=0.012
            ),
        ),
        plan=plan, trials=trials, curves=curves,
    )  # fmt: skip


@pytest.fixture(scope="session")
def sweep() -> ReportData:
    """A sweep of five scales with every law."""
    return planted_sweep()


@pytest.fixture(scope="session")
def minimal() -> ReportData:
    """A foreign table of six runs that knows params, tokens and loss: no plan, no curves, no settings."""
    records = [
        RunRecord(run_id=f"theirs {number}", params=1e6 * 2**number, tokens=2e7 * 2**number, loss=4.0 - 0.2 * number)
        for number in range(6)
    ]
    report = fit_laws(records, draws=20)
    return ReportData(
        title="table.csv", context=Context(), records=records, laws=report.laws, not_fitted=report.not_fitted
    )


@pytest.fixture(scope="session")
def empty() -> ReportData:
    """A sweep that has not measured anything: no records, no laws."""
    return ReportData(
        title="nothing yet", context=Context(), records=(), laws={}, not_fitted={"chinchilla": "no points"}
    )
