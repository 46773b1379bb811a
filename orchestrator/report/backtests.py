"""Predictions that were written down before a scale was trained, beside what was measured there."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

import plotly.graph_objects as go

from orchestrator.laws.predicted import Predicted
from orchestrator.numbers import number
from orchestrator.report.advice import span, writer
from orchestrator.report.data import Backtest, ReportData
from orchestrator.report.figures import figure_html
from orchestrator.report.html import Cell, bullets, paragraph, quantity, table
from orchestrator.report.style import BLUE, MUTED, VERMILLION, NothingToDraw, finished, percent, plural

_SHOWN = {"loss": "loss", "learning_rate": "learning rate", "batch_tokens": "batch, tokens", "beta2": "beta2"}


def backtest_section(data: ReportData) -> str:
    """A table for each prediction, and how far off all of them were."""
    if not data.backtests:
        return ""
    return "".join(_backtest(test) for test in data.backtests) + figure_html(backtest_errors, data)


def _backtest(test: Backtest) -> str:
    written = datetime.fromtimestamp(test.written_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    lead = f"Written down {written}, before the first trial of {test.cell}, from {plural(test.runs_used, 'run')}."
    rows = [_row(name, title, test) for name, title in _SHOWN.items() if name in test.prediction.quantities]
    heads = ("quantity", "predicted", "one run falls into", "measured", "verdict")
    return (
        f"<h3>{escape(test.cell)}</h3>"
        + paragraph(lead)
        + table(heads, rows)
        + paragraph(_regret(test))
        + bullets(test.prediction.warnings, "warnings")
    )


def _row(name: str, title: str, test: Backtest) -> list[Cell]:
    said, found = test.prediction.quantities[name], test.measured.get(name)
    return [
        Cell(text=title),
        quantity(said.value, writer(name), note=span(name, said.low, said.high)),
        Cell(text=span(name, said.predictive_low, said.predictive_high)),
        quantity(found, writer(name)),
        Cell(text=_verdict(said, found)),
    ]


def _verdict(said: Predicted, found: float | None) -> str:
    """Whether the measurement lies in the interval in which it was expected."""
    if found is None:
        return "not measured: on an edge, or not fitted"
    low = said.low if said.predictive_low is None else said.predictive_low
    high = said.high if said.predictive_high is None else said.predictive_high
    if low is None or high is None:
        return "no interval was given"
    return "inside the interval" if low <= found <= high else "outside the interval"


def _regret(test: Backtest) -> str:
    if test.regret is None:
        return "Nothing was measured at the predicted settings yet." if not test.measured else ""
    best = test.measured.get("best_loss")
    against = f" ({number(best, 4)})" if best is not None else ""
    return (
        f"The runs at the predicted settings ended {percent(test.regret)} above the cell's fitted best{against}: "
        "that is what following the laws would have cost."
    )


def backtest_errors(data: ReportData) -> go.Figure:
    """Predicted over measured, with the interval of one run: 1 is a perfect prediction.

    Raises NothingToDraw where nothing was measured yet.
    """
    shown = [
        (f"{title}, {test.cell}", test.prediction.quantities[name], test.measured[name])
        for test in data.backtests
        for name, title in _SHOWN.items()
        if name in test.prediction.quantities and test.measured.get(name)
    ]
    if not shown:
        raise NothingToDraw("Nothing to hold the predictions against: the held-out scale was not measured yet.")
    ratios = [said.value / found for _, said, found in shown]
    figure = go.Figure(
        go.Scatter(
            x=ratios,
            y=[label for label, _, _ in shown],
            error_x=_bars(shown),
            text=[
                f"<b>{escape(label)}</b><br>predicted {number(s.value, 4)}, measured {number(f, 4)}"
                for label, s, f in shown
            ],
            mode="markers",
            marker={"size": 11, "color": BLUE, "symbol": "diamond"},
            hovertemplate="%{text}<extra></extra>",
        )
    )
    figure.add_vline(x=1, line={"color": VERMILLION, "width": 1.5})
    figure.update_xaxes(type="log", title="predicted / measured")
    figure.update_yaxes(autorange="reversed", automargin=True)
    text = f"n = {plural(len(shown), 'prediction')}. Bars are the intervals in which one run was expected. "
    missing = sum(
        name not in test.measured for test in data.backtests for name in test.prediction.quantities if name in _SHOWN
    )
    text += f"Left out: {plural(missing, 'prediction')} without a measurement." if missing else ""
    return finished(figure, caption=text, height=150 + 44 * len(shown))


def _bars(shown: list[tuple[str, Predicted, float]]) -> dict[str, object]:
    def off(said: Predicted, bound: float | None, mean: float | None, found: float) -> float:
        chosen = mean if bound is None else bound
        return 0.0 if chosen is None else abs(chosen - said.value) / found

    return {
        "array": [off(said, said.predictive_high, said.high, found) for _, said, found in shown],
        "arrayminus": [off(said, said.predictive_low, said.low, found) for _, said, found in shown],
        "color": MUTED,
        "thickness": 1.5,
    }
