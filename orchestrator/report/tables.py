"""The tables of the page: trials, failures, exclusions."""

from __future__ import annotations

from collections import Counter

from orchestrator.laws.records import RunRecord
from orchestrator.numbers import count, number
from orchestrator.report.data import ReportData
from orchestrator.report.html import Cell, bullets, paragraph, table
from orchestrator.report.runs import CellView, cells, run_labels, scale_names
from orchestrator.report.style import percent, plural
from orchestrator.trial import Trial, TrialState

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
        Cell(text=count(trial.tokens), value=trial.tokens),
        Cell(text=number(settings.learning_rate, 4), value=settings.learning_rate),
        Cell(text=str(settings.batch_size), value=settings.batch_size),
        Cell(text=number(settings.beta2, 5), value=settings.beta2),
        Cell(text=str(trial.seed), value=trial.seed),
        Cell(text=number(trial.loss, 5), value=trial.loss),
        Cell(text=percent(regret), value=regret),
        Cell(
            text=trial.state.value, note=trial.cause.value if trial.cause and trial.state is TrialState.FAILED else ""
        ),
        Cell(text=trial.reason.value),
        Cell(text=str(trial.attempt), value=trial.attempt),
        Cell(text=number(minutes), value=minutes),
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
        Cell(text=count(record.params), value=record.params),
        Cell(text=count(record.tokens), value=record.tokens),
        Cell(text=number(record.learning_rate, 4), value=record.learning_rate),
        Cell(text=count(record.batch_tokens), value=record.batch_tokens),
        Cell(text=number(record.beta2, 5), value=record.beta2),
        Cell(text="–" if record.seed is None else str(record.seed), value=record.seed),
        Cell(text=number(record.loss, 5), value=record.loss),
        Cell(text=percent(regret), value=regret),
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
        [Cell(text=labels.get(run, run)), Cell(text=reason), Cell(text=", ".join(laws))]
        for (run, reason), laws in sorted(laws_by_case.items())[:_MOST_ROWS]
    ]
    heads = ["run", "reason", "laws that leave it out"]
    return table(heads, rows, sortable=True, tall=len(rows) > 15) + _cut_note(len(laws_by_case))


def cells_table(data: ReportData) -> str:
    """Each cell with its counts and losses."""
    found, names = cells(data), scale_names(data)
    if not found:
        return ""
    heads = ["cell", "params", "tokens", "runs", "diverged", "lowest loss", "fitted best"]
    return table(heads, [_cell_row(cell) for cell in found], sortable=True, tall=len(found) > 20) if names else ""


def _cell_row(cell: CellView) -> list[Cell]:
    lowest = min((record.loss for record in cell.completed if record.loss is not None), default=None)
    diverged = sum(record.status == "diverged" for record in cell.records)
    fitted = cell.best_loss if cell.optimum is not None else None
    return [
        Cell(text=cell.name),
        Cell(text=count(cell.params), value=cell.params),
        Cell(text=count(cell.tokens), value=cell.tokens),
        Cell(text=str(len(cell.completed)), value=len(cell.completed)),
        Cell(text=str(diverged), value=diverged),
        Cell(text=number(lowest, 5), value=lowest),
        Cell(text=number(fitted, 5), value=fitted),
    ]
