"""The path of each search: its trials in the order of proposal, and where they lie around the optimum."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.numbers import number
from orchestrator.report.data import ReportData
from orchestrator.report.runs import CellView, cells, trial_label
from orchestrator.report.settings_marks import BATCH, LEARNING_RATE, optimum_marks
from orchestrator.report.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    VERMILLION,
    NothingToDraw,
    finished,
    percent,
    plural,
)
from orchestrator.trial import Reason, Trial
from search_spaces.plan import Search

# More searches than this are no picture any more; the largest scales are shown. A guess.
_MOST_SEARCHES = 16
_ROW_HEIGHT = 250
# Regrets below are noise, and a logarithmic axis has no zero. A guess.
_LEAST_REGRET = 1e-4
_REGRET_TICKS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
_LOOKS: Mapping[Reason, tuple[str, str]] = {
    Reason.START_UP: (MUTED, "circle"),
    Reason.NEIGHBOUR: (ORANGE, "square"),
    Reason.MODEL: (BLUE, "circle"),
    Reason.SAMPLER: (MUTED, "circle-open"),
    Reason.PREDICTED: (VERMILLION, "star"),
    Reason.REFINE: (GREEN, "diamond"),
    Reason.EDGE: (PURPLE, "triangle-right"),
    Reason.FALLBACK: (INK, "x"),
    Reason.REPLICATE: (INK, "circle-open"),
}


@dataclass(frozen=True, kw_only=True)
class _Path:
    """A search, its longest cell as the figures see it, and its ended trials with a loss in order of proposal."""

    search: Search
    cell: CellView
    trials: Sequence[Trial]

    def regret(self, trial: Trial) -> float:
        best = self.cell.best_loss
        return (trial.loss or math.nan) / best - 1 if best else math.nan


def search_path(data: ReportData) -> go.Figure:
    """A row for each search: regret by order of proposal, and the order in the learning rate - batch plane.

    Raises NothingToDraw for a table of runs, which knows no order, and where no trial has a loss.
    """
    found = _paths(data)
    if not found:
        raise NothingToDraw("No path of a search: no trial of a search has ended, or the runs came from a table.")
    shown = found[-_MOST_SEARCHES:]
    titles = [title for path in shown for title in (escape(path.search.name), "in the order of proposal")]
    figure = make_subplots(
        rows=len(shown), cols=2, subplot_titles=titles, vertical_spacing=0.3 / len(shown), horizontal_spacing=0.11
    )
    for row, path in enumerate(shown, start=1):
        _draw(figure, data, path, row)
    figure.add_traces(list(_legend(shown)))
    figure.update_yaxes(
        title="regret", type="log", tickvals=_REGRET_TICKS, ticktext=[percent(tick) for tick in _REGRET_TICKS], col=1
    )
    figure.update_yaxes(title=BATCH.title, type="log", col=2)
    figure.update_xaxes(title="trial of the search", row=len(shown), col=1)
    figure.update_xaxes(type="log", col=2)
    figure.update_xaxes(title=LEARNING_RATE.title, row=len(shown), col=2)
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"})
    return finished(figure, caption=_caption(shown, len(found)), height=len(shown) * _ROW_HEIGHT + 120, wide=True)


def _paths(data: ReportData) -> list[_Path]:
    views = {cell.name: cell for cell in cells(data)}
    found = []
    for search in data.plan.searches if data.plan else ():
        measured = [trial for trial in data.trials if trial.of(search) and trial.loss is not None]
        if measured and search.name in views:
            trials = sorted(measured, key=lambda trial: trial.number)
            found.append(_Path(search=search, cell=views[search.name], trials=trials))
    return found


def _draw(figure: go.Figure, data: ReportData, path: _Path, row: int) -> None:
    numbers = _numbers(data, path.search)
    length = path.search.cell.scale.sequence_length
    order = [numbers[trial.key] for trial in path.trials]
    regrets = [max(path.regret(trial), _LEAST_REGRET) for trial in path.trials]
    rates = [trial.settings.learning_rate for trial in path.trials]
    batches = [float(trial.settings.batch_size * length) for trial in path.trials]
    text = [_text(data, path, trial, numbers[trial.key]) for trial in path.trials]
    lowest = [min(regrets[: place + 1]) for place in range(len(regrets))]
    figure.add_trace(_line(order, lowest, shape="hv"), row=row, col=1)
    figure.add_trace(_line(rates, batches, shape="linear"), row=row, col=2)
    figure.add_trace(_points(path, order, regrets, text), row=row, col=1)
    figure.add_trace(_points(path, rates, batches, text), row=row, col=2)
    for mark in optimum_marks(path.cell, LEARNING_RATE, BATCH):
        mark.showlegend = False
        figure.add_trace(mark, row=row, col=2)
    figure.update_xaxes(**LEARNING_RATE.ticks(rates), row=row, col=2)
    figure.update_yaxes(**BATCH.ticks(batches), row=row, col=2)


def _numbers(data: ReportData, search: Search) -> dict[str, int]:
    """Each trial's place in its search, those without a loss counted too."""
    mine = sorted((trial for trial in data.trials if trial.of(search)), key=lambda trial: trial.number)
    return {trial.key: place for place, trial in enumerate(mine, start=1)}


def _text(data: ReportData, path: _Path, trial: Trial, place: int) -> str:
    loss = f"loss {number(trial.loss, 5)}, regret {percent(path.regret(trial))}"
    return f"<b>{escape(trial_label(trial, data))}</b><br>trial {place}: {trial.reason}<br>{loss}"


def _line(x: Sequence[float], y: Sequence[float], *, shape: str) -> go.Scatter:
    line = {"color": MUTED, "width": 1, "shape": shape}
    return go.Scatter(x=list(x), y=list(y), mode="lines", line=line, hoverinfo="skip", showlegend=False, opacity=0.6)


def _points(path: _Path, x: Sequence[float], y: Sequence[float], text: Sequence[str]) -> go.Scatter:
    looks = [_LOOKS[trial.reason] for trial in path.trials]
    return go.Scatter(
        x=list(x),
        y=list(y),
        text=list(text),
        mode="markers",
        marker={"color": [color for color, _ in looks], "symbol": [symbol for _, symbol in looks], "size": 8},
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _legend(shown: Sequence[_Path]) -> Iterator[go.Scatter]:
    used = {trial.reason for path in shown for trial in path.trials}
    for reason, (color, symbol) in _LOOKS.items():
        if reason in used:
            marker = {"color": color, "symbol": symbol, "size": 9}
            yield go.Scatter(x=[None], y=[None], mode="markers", name=reason.value, marker=marker)


def _caption(shown: Sequence[_Path], whole: int) -> str:
    trials = sum(len(path.trials) for path in shown)
    text = (
        f"n = {plural(trials, 'trial')} of {len(shown)} of {whole} searches. Left: regret, the relative loss above the "
        f"cell's fitted best (below {percent(_LEAST_REGRET)} drawn there), and the lowest so far as a line. Right: the "
        "same trials in the plane of learning rate and batch, joined in the order of proposal, with the optimum. "
    )
    return text + "Trials that diverged or failed have no regret and are left out."
