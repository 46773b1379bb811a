"""How the search of each cell went: why its points were proposed, and why it ended."""

from __future__ import annotations

from collections import Counter

from orchestrator.report.data import ReportData
from orchestrator.report.figures import figure_html
from orchestrator.report.html import Cell, paragraph, quantity, table
from orchestrator.report.plots_search import search_path
from search_spaces.plan import Search


def searches_section(data: ReportData) -> str:
    """What stopped the sweep, a row for each search, and the path of each; nothing for a table of runs."""
    if data.plan is None or not data.trials:
        return ""
    ended = paragraph(f"What ended the sweep: {data.ended}.") if data.ended else paragraph("The sweep is not over yet.")
    rows = [_row(data, search) for search in data.plan.searches]
    return ended + table(("search", "trials", "proposed by", "why it ended"), rows) + figure_html(search_path, data)


def _row(data: ReportData, search: Search) -> list[Cell]:
    trials = [trial for trial in data.trials if trial.of(search)]
    reasons = Counter(trial.reason.value for trial in trials)
    return [
        Cell(text=search.name),
        quantity(len(trials), lambda count: f"{count:.0f} of {search.planned_trials}"),
        Cell(text=", ".join(f"{reason} {count}" for reason, count in reasons.items())),
        Cell(text=data.ends.get(search.name) or ("the sweep ended first" if data.ended else "it goes on")),
    ]
