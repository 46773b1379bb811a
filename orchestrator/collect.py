"""A run folder's trials and curves as the records that laws take, and what those records hold for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.config import SweepFile
from orchestrator.curves import read_curve
from orchestrator.laws.predict import Context
from orchestrator.laws.records import RunRecord
from orchestrator.laws.replicates import seed_noise
from orchestrator.laws.selection import group_cells, select
from orchestrator.laws.shape import LadderShape
from orchestrator.runfolder import RunFolder, software_version
from orchestrator.tables.thinning import kept_records
from orchestrator.trial import Trial, TrialState
from search_spaces.errors import ScalesweepError
from search_spaces.plan import Cell, Search, SweepPlan
from trainers.api import CurvePoint
from trainers.lm.schedule import default_warmup
from trainers.session import DIVERGED_RISE


def records_of(plan: SweepPlan, trials: Iterable[Trial], folder: Path) -> list[RunRecord]:
    """One record for each cell that each ended trial serves, in the order of proposal."""
    found: list[RunRecord] = []
    for trial in trials:
        if trial.state.ended:
            search = plan.search_of(trial.scale, trial.tokens)
            curve = {point.tokens: point for point in read_curve(folder, trial.key)}
            found += [_record(plan, trial, search, cell, curve) for cell in search.serves]
    return found


def curves_of(plan: SweepPlan, trials: Iterable[Trial], folder: Path, trainer: Mapping[str, Any]) -> list[RunRecord]:
    """The whole curves of the ended trials, for laws of how runs go; a trial without a point is one record.

    Points that end no cell are measured on a part of the held-out set. At most 20 of a curve are kept.
    """
    found: list[RunRecord] = []
    for trial in trials:
        if trial.state.ended:
            search = plan.search_of(trial.scale, trial.tokens)
            curve = {point.tokens: point for point in read_curve(folder, trial.key)}
            measured = [tokens for tokens in curve if tokens > 0 and _measured(trial, curve, tokens)]
            warmup = _warmup(search, trainer)
            cells = [replace(search.cell, tokens=tokens) for tokens in measured or [trial.tokens]]
            records = (_record(plan, trial, search, cell, curve) for cell in cells)
            found += [replace(record, warmup_tokens=warmup) for record in records]
    return kept_records(found)


def _warmup(search: Search, trainer: Mapping[str, Any]) -> float | None:
    """Tokens of warmup, as the language-model trainer takes them by default; None where nothing is known."""
    given = trainer.get("warmup_tokens")
    if given is None and trainer.get("name") == "lm":
        given = default_warmup(search.cell.scale.params, min(cell.tokens for cell in search.serves))
    return None if given is None else float(given)


def _record(plan: SweepPlan, trial: Trial, search: Search, cell: Cell, curve: Mapping[int, CurvePoint]) -> RunRecord:
    """A trial's measurement of a cell. One that diverged later has measured its shorter cells all the same."""
    point = _measured(trial, curve, cell.tokens)
    scale = search.cell.scale
    batch_tokens = trial.settings.batch_size * scale.sequence_length
    return RunRecord(
        run_id=trial.key,
        tokens=float(cell.tokens),
        loss=point.loss if point else None,
        params=float(scale.params),
        non_embedding_params=float(scale.non_embedding_params),
        flops=float(cell.flops()),
        learning_rate=trial.settings.learning_rate,
        batch_tokens=float(batch_tokens),
        beta2=trial.settings.beta2,
        steps=cell.tokens / batch_tokens,
        seed=trial.seed,
        schedule=plan.schedule.value,
        status="completed" if point else _status(trial),
    )


def _measured(trial: Trial, curve: Mapping[int, CurvePoint], tokens: int) -> CurvePoint | None:
    """The curve's point at so many tokens, unless it is where the trial diverged."""
    point = curve.get(tokens)
    if point is None or trial.state is not TrialState.DIVERGED:
        return point
    return point if point.loss <= curve[min(curve)].loss + DIVERGED_RISE else None


def _status(trial: Trial) -> str:
    return "diverged" if trial.state is TrialState.DIVERGED else "failed"


def context_of(plan: SweepPlan, records: Sequence[RunRecord], trainer: Mapping[str, Any]) -> Context:
    """What laws from these records hold for. `trainer` is the sweep file's section."""
    ratios = [cell.tokens_per_param for cell in plan.cells]
    largest = plan.scales[-1]
    warmup = trainer.get("warmup_tokens")
    return Context(
        tokenizer=_named(trainer.get("tokenizer", "bytes")) if trainer.get("name") == "lm" else None,
        vocab_size=largest.vocab_size,
        sequence_length=largest.sequence_length,
        ladder=tuple(
            LadderShape(
                params=float(scale.params),
                depth=scale.depth,
                width=scale.width,
                heads=scale.heads,
                non_embedding_params=float(scale.non_embedding_params),
                ffn_width=scale.ffn_width,
            )
            for scale in plan.scales
        ),
        architecture=largest.architecture.value,
        tied=largest.tied,
        schedule=plan.schedule.value,
        warmup=f"{warmup:,} tokens" if warmup is not None else "min(N, a quarter of the shortest horizon) tokens",
        weight_decay=trainer.get("weight_decay"),
        tokens_per_param=(min(ratios), max(ratios)),
        corpus=_named(trainer["corpus"]) if "corpus" in trainer else None,
        noise_sd=_noise(records),
        version=software_version(),
    )


def _named(given: object) -> str:
    """A corpus or tokenizer as the sweep file names it, in one line."""
    if isinstance(given, Mapping):
        return " ".join(f"{key} {value}" for key, value in given.items())
    return ", ".join(map(str, given)) if isinstance(given, list) else str(given)


def _noise(records: Sequence[RunRecord]) -> float | None:
    try:
        chosen = select(records, ("params", "tokens", "loss", "learning_rate", "batch_tokens", "beta2"), law="noise")
        return seed_noise(group_cells(chosen))
    except ScalesweepError:  # no completed run yet: the noise is not known
        return None


def collect(folder: RunFolder, trials: Iterable[Trial]) -> tuple[list[RunRecord], Context]:
    """The records of a run folder's trials, and their context."""
    sweep = folder.sweep()
    plan = sweep.plan()
    records = records_of(plan, trials, folder.path)
    return records, context_of(plan, records, _trainer(sweep))


def collect_curves(folder: RunFolder, trials: Iterable[Trial]) -> list[RunRecord]:
    """The whole curves of a run folder's trials; see `curves_of`."""
    sweep = folder.sweep()
    return curves_of(sweep.plan(), trials, folder.path, _trainer(sweep))


def _trainer(sweep: SweepFile) -> dict[str, Any]:
    trainer = sweep.trainer_ref()
    return {"name": trainer.name, **trainer.options}
