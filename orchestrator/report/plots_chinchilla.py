"""How well L(N, D) = E + A / N^alpha + B / D^beta fits: levels, and what is left over."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.laws import chinchilla
from orchestrator.laws.loss_points import LossPoints
from orchestrator.laws.result import FittedLaw, Floats, Status
from orchestrator.numbers import count, number
from orchestrator.report.bands import band, band_traces, log_line
from orchestrator.report.data import ReportData
from orchestrator.report.envelope import envelope
from orchestrator.report.style import (
    MUTED,
    NothingToDraw,
    finished,
    log_ticks,
    percent,
    plain_log_ticks,
    plural,
    scale_colors,
)

# More sizes than this are drawn without a line each.
_MOST_LINES = 12


def chinchilla_fit(data: ReportData) -> go.Figure:
    """Loss against tokens with the law's line for each size, and the relative residuals.

    Raises NothingToDraw where the law was not fitted.
    """
    law = data.laws.get("chinchilla")
    if law is None or law.status is Status.FAILED:
        raise NothingToDraw(f"No law of the loss L(N, D): {data.not_fitted.get('chinchilla', 'it was not fitted')}.")
    shown = envelope(data)
    points = shown.points
    residuals = points.loss / chinchilla.loss(_values(law), points.params, points.tokens) - 1
    figure = make_subplots(
        rows=1, cols=2, column_widths=[0.56, 0.44], horizontal_spacing=0.11,
        subplot_titles=["loss, lines are the law", "measured loss above the law"],
    )  # fmt: skip
    sizes = np.unique(points.params)
    for size, color in zip(sizes, scale_colors([str(size) for size in sizes]).values(), strict=True):
        rows = np.flatnonzero(points.params == size)
        if len(sizes) <= _MOST_LINES:
            figure.add_traces(_level(law, points[rows], float(size), color), rows=1, cols=1)
        figure.add_trace(_marks(points[rows], residuals[rows], points.loss[rows], color, legend=True), row=1, col=1)
        figure.add_trace(_marks(points[rows], residuals[rows], residuals[rows], color, legend=False), row=1, col=2)
    figure.add_hline(y=0, line={"color": MUTED, "width": 1}, row=1, col=2)
    figure.update_xaxes(type="log", title="tokens", **log_ticks([*points.tokens], most=6))
    low, high = float(points.loss.min()), float(points.loss.max())
    figure.update_yaxes(type="log", title="nats per token", row=1, col=1, **plain_log_ticks(low, high))
    figure.update_yaxes(tickformat=".1%", row=1, col=2)
    figure.update_layout(legend={"title": "params"})
    spread = float(np.sqrt(np.mean(residuals**2)))
    text = f"n = {plural(len(points.loss), 'point')} at {plural(len(sizes), 'size')}, each {shown.words}. "
    text += f"The points lie {percent(spread)} (root mean square) from the law."
    text += f" Weak: {law.reason}." if law.status is Status.WEAK else ""
    if points.excluded:
        text += f" Left out: {plural(len(points.excluded), 'run')} without a usable loss."
    return finished(figure, caption=text, height=440, wide=True)


def _values(law: FittedLaw) -> dict[str, float]:
    return {name: estimate.value for name, estimate in law.parameters.items()}


def _level(law: FittedLaw, points: LossPoints, size: float, color: str) -> list[go.Scatter]:
    x = log_line(float(points.tokens.min()) / 1.3, float(points.tokens.max()) * 1.3)
    drawn = band(law, x, lambda parameters: chinchilla.loss(parameters, size, x))
    return band_traces(drawn, name=count(size), color=color, group=count(size), legend=False)


def _marks(points: LossPoints, residuals: Floats, y: Floats, color: str, *, legend: bool) -> go.Scatter:
    size = count(float(points.params[0]))
    text = [
        f"<b>{size} params, {count(tokens)} tokens</b><br>loss {number(loss, 5)}, {percent(residual)} above the law"
        for tokens, loss, residual in zip(points.tokens, points.loss, residuals, strict=True)
    ]
    return go.Scatter(
        x=points.tokens,
        y=y,
        text=text,
        mode="markers",
        name=size,
        legendgroup=size,
        showlegend=legend,
        marker={"color": color, "size": 8, "line": {"color": "white", "width": 0.8}},
        hovertemplate="%{text}<extra></extra>",
    )
