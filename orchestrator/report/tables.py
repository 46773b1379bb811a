"""The tables of the page: trials, failures, exclusions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from orchestrator.laws.records import RunRecord
from orchestrator.numbers import count, number
from orchestrator.report.advice import span, writer
from orchestrator.report.data import ReportData
from orchestrator.report.html import Cell, bullets, paragraph, quantity, table
from orchestrator.report.optima import optimum_setting
from orchestrator.report.runs import CellView, cells, run_labels
from orchestrator.report.style import percent, plural
from orchestrator.trial import Trial, TrialState

_SETTINGS = {"learning_rate": "learning rate", "batch_tokens": "batch, tokens", "beta2": "beta2"}
# Rows of the table of runs: a page with more is slow to open, and laws.json has them all. A guess.
_MOST_ROWS = 3000


def trials_table(data: ReportData) -> str:
    """All trials, or the runs of a foreign table; a click on a header sorts."""
    return _trials(data) if data.trials else _runs(data)


def _trials(data: ReportData) -> str:
    heads = [
        "trial",
        "scale",
        "tokens",
        "learning rate",
        "batch",
        "beta2",
        "seed",
        "loss",
        "regret",
        "state",
        "proposed by",
        "attempts",
        "minutes",
    ]
    labels, regrets = run_labels(data), _regrets(data)
    rows = [_trial_row(trial, labels[trial.key], regrets.get(trial.key)) for trial in data.trials[:_MOST_ROWS]]
    cut = _cut_note(len(data.trials))
    return (
        paragraph("Click on a header to sort. Batch is in sequences.", "muted")
        + table(heads, rows, sortable=True, tall=True)
        + cut
    )


def _trial_row(trial: Trial, label: str, regret: float | None) -> list[Cell]:
    settings = trial.settings
    minutes = None if trial.started_at is None or trial.ended_at is None else (trial.ended_at - trial.started_at) / 60
    return [
        Cell(text=label),
        Cell(text=trial.scale),
        quantity(trial.tokens, count),
        quantity(settings.learning_rate, _digits(4)),
        quantity(settings.batch_size, str),
        quantity(settings.beta2, _digits(5)),
        quantity(trial.seed, str),
        quantity(trial.loss, _digits(5)),
        quantity(regret, percent),
        Cell(
            text=trial.state.value, note=trial.cause.value if trial.cause and trial.state is TrialState.FAILED else ""
        ),
        Cell(text=trial.reason.value),
        quantity(trial.attempt, str),
        quantity(minutes),
    ]


def _runs(data: ReportData) -> str:
    heads = ["run", "params", "tokens", "learning rate", "batch, tokens", "beta2", "seed", "loss", "regret", "status"]
    last: dict[str, RunRecord] = {}
    for record in data.records:
        if record.run_id not in last or (record.tokens or 0) >= (last[record.run_id].tokens or 0):
            last[record.run_id] = record
    regrets = _regrets(data)
    rows = [_run_row(record, regrets.get(record.run_id)) for record in list(last.values())[:_MOST_ROWS]]
    return table(heads, rows, sortable=True, tall=True) + _cut_note(len(last))


def _run_row(record: RunRecord, regret: float | None) -> list[Cell]:
    return [
        Cell(text=record.run_id),
        quantity(record.params, count),
        quantity(record.tokens, count),
        quantity(record.learning_rate, _digits(4)),
        quantity(record.batch_tokens, count),
        quantity(record.beta2, _digits(5)),
        quantity(record.seed, str),
        quantity(record.loss, _digits(5)),
        quantity(regret, percent),
        Cell(text=record.status),
    ]


def _regrets(data: ReportData) -> dict[str, float]:
    """Regret of each completed run in its longest cell, by run id."""
    found: dict[str, float] = {}
    for cell in cells(data):
        found |= {record.run_id: cell.regret(record) for record in cell.completed}
    return found


def _cut_note(rows: int) -> str:
    hidden = rows - _MOST_ROWS
    return paragraph(f"{plural(hidden, 'more row')} not shown here.", "muted") if hidden > 0 else ""


def failures(data: ReportData) -> str:
    """What went wrong, by cause, and which trials gave no measurement."""
    causes = Counter[str]()
    for trial in data.trials:
        for cause, times in trial.failures.items():
            causes[cause.value] += times
    if not causes:
        return paragraph("No attempt failed.") if data.trials else ""
    lost = [trial for trial in data.trials if trial.state is TrialState.FAILED]
    labels = run_labels(data)
    words = ", ".join(f"{cause} {times}" for cause, times in causes.most_common())
    lead = paragraph(f"Failed attempts by cause: {words}. {plural(len(lost), 'trial')} gave no measurement in the end.")
    return lead + bullets([f"{labels[t.key]}: {t.cause.value if t.cause else 'failed'}. {t.message}" for t in lost])


def exclusions_table(data: ReportData) -> str:
    """Runs that a law did not use, with the reason, one row for each run and reason."""
    labels = run_labels(data)
    laws_by_case: dict[tuple[str, str], list[str]] = {}
    for law in data.laws.values():
        for excluded in law.runs_excluded:
            laws_by_case.setdefault((excluded.run, excluded.reason), []).append(law.name)
    if not laws_by_case:
        return paragraph("Every run was used by every law.") if data.laws else ""
    rows = [
        [Cell(text=labels.get(run, run)), Cell(text=reason), Cell(text=", ".join(dict.fromkeys(laws)))]
        for (run, reason), laws in sorted(laws_by_case.items())[:_MOST_ROWS]
    ]
    heads = ["run", "reason", "laws that leave it out"]
    return table(heads, rows, sortable=True, tall=len(rows) > 15) + _cut_note(len(laws_by_case))


def cells_table(data: ReportData) -> str:
    """Each cell with its counts and losses."""
    found = cells(data)
    if not found:
        return ""
    heads = ["cell", "params", "tokens", "runs", "diverged", "lowest loss", "fitted best", *_SETTINGS.values()]
    lead = paragraph("The settings are those of each cell's fitted optimum, with the interval below.", "muted")
    return lead + table(heads, [_cell_row(cell) for cell in found], sortable=True, tall=len(found) > 20)


def _cell_row(cell: CellView) -> list[Cell]:
    lowest = min((record.loss for record in cell.completed if record.loss is not None), default=None)
    diverged = sum(record.status == "diverged" for record in cell.records)
    fitted = cell.best_loss if cell.optimum is not None else None
    return [
        Cell(text=cell.name),
        quantity(cell.params, count),
        quantity(cell.tokens, count),
        quantity(len(cell.completed), str),
        quantity(diverged, str),
        quantity(lowest, _digits(5)),
        quantity(fitted, _digits(5)),
        *(_optimum_cell(cell, setting) for setting in _SETTINGS),
    ]


def _optimum_cell(cell: CellView, setting: str) -> Cell:
    found = optimum_setting(cell, setting)
    if found is None:
        return quantity(None)
    note = f"on the {found.edge} edge" if found.edge else span(setting, found.low, found.high)
    return quantity(found.value, writer(setting), note=note)


def _digits(digits: int) -> Callable[[float], str]:
    return lambda value: number(value, digits)
