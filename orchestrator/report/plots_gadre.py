"""Gadre's two laws: the loss at each compute and split, then the downstream error at each loss."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from orchestrator.laws import downstream, overtraining
from orchestrator.laws.loss_points import LossPoints
from orchestrator.laws.result import FittedLaw, Floats, Status
from orchestrator.laws.selection import clusters
from orchestrator.numbers import count, number
from orchestrator.report.bands import band, band_traces, log_line
from orchestrator.report.data import ReportData
from orchestrator.report.envelope import envelope
from orchestrator.report.style import (
    BLUE,
    INK,
    NothingToDraw,
    finished,
    percent,
    plain_log_ticks,
    plural,
    scale_colors,
)

# More splits than this are drawn without a line each.
_MOST_LINES = 12


def overtraining_fit(data: ReportData) -> go.Figure:
    """Loss against compute, a line for each tokens per param. Raises NothingToDraw where the law was not fitted."""
    law = _fitted(data, overtraining.NAME)
    shown = envelope(data)
    points = shown.points
    ratios = points.tokens / points.params
    splits = clusters([float(ratio) for ratio in ratios])
    figure = go.Figure()
    for (low, high), color in zip(splits, scale_colors([str(low) for low, _ in splits]).values(), strict=True):
        rows = np.flatnonzero((ratios >= low) & (ratios <= high))
        middle = float(np.sqrt(low * high))
        if len(splits) <= _MOST_LINES:
            figure.add_traces(_line(law, points[rows], middle, color))
        figure.add_trace(_losses(points[rows], middle, color, named=len(splits) <= _MOST_LINES))
    figure.update_xaxes(type="log", title="FLOP", exponentformat="power")
    low, high = float(points.loss.min()), float(points.loss.max())
    figure.update_yaxes(type="log", title="nats per token", **plain_log_ticks(low, high))
    figure.update_layout(legend={"title": "tokens per param"})
    values = {name: estimate.value for name, estimate in law.parameters.items()}
    away = points.loss / overtraining.loss(values, points.flops, ratios) - 1
    shades = "lines are the law" if len(splits) <= _MOST_LINES else "the brighter, the more tokens per param"
    text = f"n = {plural(len(points.loss), 'point')} at {plural(len(splits), 'split')}, each {shown.words}; {shades}. "
    text += f"They lie {percent(float(np.sqrt(np.mean(away**2))))} (root mean square) from the law overtraining."
    return finished(figure, caption=text + _weak(law), height=440)


def downstream_error(data: ReportData) -> go.Figure:
    """Downstream error against loss with the law's line. Raises NothingToDraw where the law was not fitted."""
    law = _fitted(data, downstream.NAME)
    used = downstream.usable(data.whole_curves).used
    losses = np.array([record.loss for record in used], float)
    errors = np.array([record.error for record in used], float)
    x = np.asarray(np.linspace(losses.min() * 0.97, losses.max() * 1.03, 60))
    figure = go.Figure(
        band_traces(
            band(law, x, lambda parameters: downstream.error(parameters, x)), name="the law", color=BLUE, group="law"
        )
    )
    figure.add_trace(
        go.Scatter(
            x=losses,
            y=errors,
            text=[f"<b>{record.run_id}</b><br>loss {number(record.loss, 4)}, error {percent(record.error, 3)}"
                  for record in used],
            mode="markers",
            name="measured",
            marker={"color": INK, "size": 7, "line": {"color": "white", "width": 0.8}},
            hovertemplate="%{text}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title="loss, nats per token")
    figure.update_yaxes(title="downstream error", tickformat=".0%")
    text = f"n = {plural(len(used), 'point')} of {plural(law.runs_used, 'run')}; the line is the law downstream. "
    text += f"Errors scatter by {percent(law.value('scatter'))} of the questions around it."
    return finished(figure, caption=text + _weak(law), height=400)


def _fitted(data: ReportData, name: str) -> FittedLaw:
    law = data.laws.get(name)
    if law is None or law.status is Status.FAILED:
        raise NothingToDraw(f"No law {name}: {data.not_fitted.get(name, 'it was not fitted')}.")
    return law


def _weak(law: FittedLaw) -> str:
    return f" Weak: {law.reason}." if law.status is Status.WEAK else ""


def _line(law: FittedLaw, points: LossPoints, ratio: float, color: str) -> list[go.Scatter]:
    x: Floats = log_line(float(points.flops.min()) / 1.5, float(points.flops.max()) * 1.5)
    drawn = band(law, x, lambda parameters: overtraining.loss(parameters, x, ratio))
    return band_traces(drawn, name=number(ratio, 3), color=color, group=number(ratio, 3), legend=False)


def _losses(points: LossPoints, ratio: float, color: str, *, named: bool) -> go.Scatter:
    rows = zip(points.params, points.tokens, points.loss, strict=True)
    split = f"{number(ratio, 3)} tokens per param"
    return go.Scatter(
        x=points.flops,
        y=points.loss,
        text=[f"<b>{count(n)} params, {count(d)} tokens</b><br>{split}, loss {number(loss, 5)}" for n, d, loss in rows],
        mode="markers",
        name=number(ratio, 3),
        legendgroup=number(ratio, 3),
        showlegend=named,
        marker={"color": color, "size": 8, "line": {"color": "white", "width": 0.8}},
        hovertemplate="%{text}<extra></extra>",
    )
