"""Hoffmann's first approach: the training curves of all sizes and their lower envelope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from orchestrator.laws.loss_points import LossPoints, loss_points
from orchestrator.laws.lower_envelope import SizeCurves
from orchestrator.laws.result import Status
from orchestrator.numbers import count, number
from orchestrator.report.data import ReportData
from orchestrator.report.style import (
    VERMILLION,
    NothingToDraw,
    finished,
    log_ticks,
    plain_log_ticks,
    plural,
    scale_colors,
)
from search_spaces.errors import FitError, InputError


def training_envelope(data: ReportData) -> go.Figure:
    """Loss against compute, the lowest curve of each size, and the sizes that are lowest.

    Raises NothingToDraw where the law was not fitted.
    """
    law = data.laws.get("envelope")
    if law is None or law.status is Status.FAILED:
        raise NothingToDraw(
            f"No envelope of the training curves: {data.not_fitted.get('envelope', 'it was not fitted')}."
        )
    curves = _curves(data)
    sizes = [float(curves.points.params[rows[0]]) for rows in curves.rows]
    colors = scale_colors([str(size) for size in sizes])
    figure = go.Figure()
    for rows, color in zip(curves.rows, colors.values(), strict=True):
        figure.add_trace(_curve(curves.points[rows], color))
    steps = law.tables.get("steps", ())
    figure.add_traces([_step(row, first=at == 0) for at, row in enumerate(row for row in steps if row["used"])])
    points = curves.points
    figure.update_xaxes(
        type="log", title="training compute C, FLOP", **log_ticks([*points.flops], write="plain", most=9)
    )
    low, high = float(points.loss.min()), float(points.loss.max())
    figure.update_yaxes(type="log", title="loss, nats per token", **plain_log_ticks(low, high))
    figure.update_layout(legend={"title": "params"})
    text = f"n = {plural(law.runs_used, 'run')} at {plural(len(sizes), 'size')}, each line the lowest loss of a size. "
    text += "Red marks the sizes that are lowest between two crossings: the law goes through them. "
    text += f"a = {number(law.value('a'))}"
    bias = law.tables.get("design_bias", ())
    text += f", of which the design alone makes {number(bias[0]['bias'], 2)}." if bias else "."
    text += data.curve_note
    text += f" Weak: {law.reason}." if law.status is Status.WEAK else ""
    return finished(figure, caption=text, height=480)


def _curves(data: ReportData) -> SizeCurves:
    try:
        return SizeCurves.of(loss_points(data.whole_curves, law="envelope", unfinished=True))
    except (InputError, FitError) as error:
        raise NothingToDraw(f"No envelope of the training curves: {error}.") from error


def _curve(points: LossPoints, color: str) -> go.Scatter:
    size = count(float(points.params[0]))
    text = [
        f"<b>{size} params, {count(tokens)} tokens</b><br>{number(flops)} FLOP, loss {number(loss, 5)}"
        for tokens, flops, loss in zip(points.tokens, points.flops, points.loss, strict=True)
    ]
    return go.Scatter(
        x=points.flops,
        y=points.loss,
        text=text,
        mode="lines+markers",
        name=size,
        line={"color": color, "width": 1.4},
        marker={"size": 4},
        hovertemplate="%{text}<extra></extra>",
    )


def _step(row: Mapping[str, Any], *, first: bool) -> go.Scatter:
    words = f"<b>{count(row['params'])} params</b><br>"
    words += f"lowest from {number(row['flops_from'])} to {number(row['flops_to'])} FLOP"
    return go.Scatter(
        x=[row["flops_from"], row["flops_to"]],
        y=[row["loss_from"], row["loss_to"]],
        text=[words, words],
        mode="lines+markers",
        name="lowest size",
        legendgroup="lowest",
        showlegend=first,
        line={"color": VERMILLION, "width": 4},
        marker={"size": 7, "symbol": "line-ns-open", "color": VERMILLION},
        hovertemplate="%{text}<extra></extra>",
    )
