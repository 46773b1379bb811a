"""What each measured point is called and which cell it belongs to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.laws.records import RunRecord
from orchestrator.laws.selection import SAME_COUNT
from orchestrator.numbers import count, number
from orchestrator.report.data import ReportData
from orchestrator.trial import Trial
from search_spaces.plan import Search
from search_spaces.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class CellView:
    """One cell as the figures need it. `optimum` is its row in the table of the law `hyperparameters`."""

    name: str
    scale: str
    params: float
    tokens: float
    records: Sequence[RunRecord]
    optimum: Mapping[str, Any] | None = None
    space: SearchSpace | None = None
    sequence_length: int | None = None  # known where the space is

    @property
    def tokens_per_param(self) -> float:
        """D/N by the count that the table uses."""
        return self.tokens / self.params

    @property
    def completed(self) -> list[RunRecord]:
        """The runs with a loss to compare."""
        return [record for record in self.records if record.status == "completed" and record.loss is not None]

    @property
    def best_loss(self) -> float | None:
        """The fitted minimum; the lowest measured loss where nothing was fitted."""
        if self.optimum is not None and self.optimum.get("loss") is not None:
            return float(self.optimum["loss"])
        return min((record.loss for record in self.completed if record.loss is not None), default=None)

    def regret(self, record: RunRecord) -> float:
        """Relative loss above the cell's best, L/L_best - 1. Noise may carry it below zero."""
        best = self.best_loss
        return record.loss / best - 1 if best and record.loss is not None else float("nan")


def run_labels(data: ReportData) -> dict[str, str]:
    """A name for people, by run id: scale, cell and settings of our trials, what is known of foreign runs."""
    labels = {record.run_id: _foreign_label(record) for record in data.records}
    return labels | {trial.key: trial_label(trial, data) for trial in data.trials}


def trial_label(trial: Trial, data: ReportData) -> str:
    """`s3-20tpp lr1.2e-3 b32 beta2 0.98 #7`."""
    search = search_of(trial, data)
    settings = trial.settings
    place = search.name if search else trial.scale
    return (
        f"{place} lr{number(settings.learning_rate, 4)} b{settings.batch_size} "
        f"beta2 {number(settings.beta2, 4)} #{trial.number}"
    )


def _foreign_label(record: RunRecord) -> str:
    known = {"lr": number(record.learning_rate), "batch": count(record.batch_tokens), "beta2": number(record.beta2, 4)}
    values = (record.learning_rate, record.batch_tokens, record.beta2)
    settings = [
        f"{name} {text}" for (name, text), value in zip(known.items(), values, strict=True) if value is not None
    ]
    return " ".join([record.run_id, *settings])


def search_of(trial: Trial, data: ReportData) -> Search | None:
    """The trial's search, where the plan is known."""
    searches = data.plan.searches if data.plan else ()
    return next((search for search in searches if trial.of(search)), None)


def scale_names(data: ReportData) -> dict[float, str]:
    """The name of each size in the records, smallest first; foreign sizes are called by their params."""
    ours = {trial.key: trial.scale for trial in data.trials}
    names: dict[float, str] = {}
    for record in data.records:
        if record.params is not None and (record.params not in names or record.run_id in ours):
            names[record.params] = ours.get(record.run_id, count(record.params))
    return dict(sorted(names.items()))


def cells(data: ReportData) -> tuple[CellView, ...]:
    """The cells, smallest scale first, then fewest tokens: the plan's, or those of the table's last points."""
    found = _planned_cells(data) if data.plan else _table_cells(data)
    return tuple(sorted((cell for cell in found if cell.records), key=lambda cell: (cell.params, cell.tokens)))


def _planned_cells(data: ReportData) -> list[CellView]:
    by_run: defaultdict[str, list[RunRecord]] = defaultdict(list)
    for record in data.records:
        by_run[record.run_id].append(record)
    found = []
    for search in data.plan.searches if data.plan else ():
        keys = [trial.key for trial in data.trials if trial.of(search)]
        for cell in search.serves:
            records = [r for key in keys for r in by_run[key] if _belongs(r, cell.tokens)]
            params = next((record.params for record in records if record.params), float(cell.scale.params))
            found.append(
                CellView(
                    name=cell.name,
                    scale=cell.scale.name,
                    params=params,
                    tokens=cell.tokens,
                    records=records,
                    optimum=_optimum_of(data, params, cell.tokens),
                    space=search.space,
                    sequence_length=cell.scale.sequence_length,
                )
            )
    return found


def _belongs(record: RunRecord, tokens: int) -> bool:
    return record.tokens is not None and abs(record.tokens / tokens - 1) < SAME_COUNT


def _table_cells(data: ReportData) -> list[CellView]:
    last: dict[str, RunRecord] = {}
    for record in data.records:
        if record.params and record.tokens and record.tokens >= (_tokens(last.get(record.run_id))):
            last[record.run_id] = record
    groups: list[list[RunRecord]] = []
    for record in sorted(last.values(), key=lambda r: (r.params or 0, r.tokens or 0)):
        if groups and _close(groups[-1][0], record):
            groups[-1].append(record)
        else:
            groups.append([record])
    names = scale_names(data)
    return [_table_cell(data, group, names) for group in groups]


def _table_cell(data: ReportData, group: list[RunRecord], names: Mapping[float, str]) -> CellView:
    params, tokens = group[0].params or 0.0, group[0].tokens or 0.0
    return CellView(
        name=f"{names[params]}-{tokens / params:.3g}tpp",
        scale=names[params],
        params=params,
        tokens=tokens,
        records=group,
        optimum=_optimum_of(data, params, tokens),
    )


def _tokens(record: RunRecord | None) -> float:
    return record.tokens or 0.0 if record else 0.0


def _close(one: RunRecord, other: RunRecord) -> bool:
    pairs = ((one.params, other.params), (one.tokens, other.tokens))
    return all(a and b and abs(a / b - 1) < SAME_COUNT for a, b in pairs)


def _optimum_of(data: ReportData, params: float, tokens: float) -> Mapping[str, Any] | None:
    law = data.laws.get("hyperparameters")
    rows = law.tables.get("optima", ()) if law else ()
    near = (
        row
        for row in rows
        if abs(row["params"] / params - 1) < SAME_COUNT and abs(row["tokens"] / tokens - 1) < SAME_COUNT
    )
    return next(near, None)
