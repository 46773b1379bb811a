"""The adaptive schedule: which shape to train at each loss, and the compute that saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.laws import adaptive
from orchestrator.laws.result import FittedLaw, Status
from orchestrator.numbers import count, number
from orchestrator.report.bands import Band, band_traces, log_line
from orchestrator.report.data import ReportData
from orchestrator.report.style import (
    BLUE,
    VERMILLION,
    NothingToDraw,
    finished,
    log_ticks,
    percent,
    plain_log_ticks,
    plural,
    scale_colors,
)

_BEYOND = 3.0  # lines of static shapes go so far beyond their measurements, as a factor


def adaptive_schedule(data: ReportData) -> go.Figure:
    """Loss against compute of each static shape and of the model that changes its shape, and what that saves.

    Raises NothingToDraw where the law was not fitted.
    """
    law = data.laws.get("adaptive")
    if law is None or law.status is Status.FAILED:
        raise NothingToDraw(f"No schedule of shapes: {data.not_fitted.get('adaptive', 'it was not fitted')}.")
    shapes, schedule = law.tables["shapes"], law.tables["schedule"]
    figure = make_subplots(
        rows=1, cols=2, column_widths=[0.6, 0.4], horizontal_spacing=0.11,
        subplot_titles=["loss, the red line changes its shape", "compute saved down to this loss"],
    )  # fmt: skip
    for row, color in zip(shapes, scale_colors([str(row["params"]) for row in shapes]).values(), strict=True):
        figure.add_trace(_static(row, color), row=1, col=1)
    figure.add_traces([_path(schedule), _marks(law.tables["switches"])], rows=1, cols=1)
    figure.add_traces(_saved(schedule), rows=1, cols=2)
    losses = [row["loss"] for row in schedule]
    computes = [row["flops"] for row in schedule]
    figure.update_xaxes(
        type="log", title="training compute C, FLOP", row=1, col=1, **log_ticks(computes, write="plain")
    )
    limits = [float(np.log10(min(losses) * 0.98)), float(np.log10(max(losses) * 1.02))]
    loss_ticks = plain_log_ticks(min(losses), max(losses))
    figure.update_yaxes(type="log", title="nats per token", range=limits, row=1, col=1, **loss_ticks)
    figure.update_xaxes(type="log", title="loss, nats per token", autorange="reversed", row=1, col=2, **loss_ticks)
    figure.update_yaxes(tickformat=".0%", row=1, col=2)
    figure.update_layout(legend={"title": "params"})
    return finished(figure, caption=_caption(law, data.curve_note), height=440, wide=True)


def _caption(law: FittedLaw, note: str) -> str:
    saved, loss = law.parameters["saved"], law.tables["schedule"][-1]["loss"]
    text = f"n = {plural(law.runs_used, 'run')} of {plural(len(law.tables['shapes']), 'shape')}. "
    text += f"Changing the shape {plural(len(law.tables['switches']), 'time')} (diamonds) saves {percent(saved.value)} "
    text += f"({percent(saved.low)} to {percent(saved.high)}) of the best static shape's compute down to a loss of "
    text += f"{number(loss, 4)}. It is assumed that the loss carries over at a change without any transient.{note}"
    return text + (f" Weak: {law.reason}." if law.status is Status.WEAK else "")


def _static(row: Mapping[str, Any], color: str) -> go.Scatter:
    x = log_line(row["flops_min"], row["flops_max"] * _BEYOND)
    return go.Scatter(
        x=x,
        y=adaptive.loss(row, x),
        mode="lines",
        name=count(row["params"]),
        line={"color": color, "width": 1.4},
        hovertemplate=f"<b>{count(row['params'])} params</b><br>loss %{{y:.4f}} at %{{x:.3s}} FLOP<extra></extra>",
    )


def _path(schedule: Sequence[Mapping[str, Any]]) -> go.Scatter:
    return go.Scatter(
        x=[row["flops"] for row in schedule],
        y=[row["loss"] for row in schedule],
        text=[f"{count(row['params'])} params, {count(row['tokens'])} tokens so far" for row in schedule],
        mode="lines",
        name="changing",
        line={"color": VERMILLION, "width": 3},
        hovertemplate="<b>%{text}</b><br>loss %{y:.4f} at %{x:.3s} FLOP<extra></extra>",
    )


def _marks(switches: Sequence[Mapping[str, Any]]) -> go.Scatter:
    return go.Scatter(
        x=[row["flops"] for row in switches],
        y=[row["loss"] for row in switches],
        text=[f"from {count(row['from_params'])} to {count(row['params'])} params" for row in switches],
        mode="markers",
        name="switches",
        marker={"symbol": "diamond", "size": 9, "color": VERMILLION, "line": {"color": "white", "width": 1}},
        hovertemplate="<b>%{text}</b><br>at loss %{y:.4f}, %{x:.3s} FLOP<extra></extra>",
    )


def _saved(schedule: Sequence[Mapping[str, Any]]) -> list[go.Scatter]:
    rows = [row for row in schedule if row["saved_low"] is not None]
    loss, value, low, high = (
        np.array([row[name] for row in rows]) for name in ("loss", "saved", "saved_low", "saved_high")
    )
    shown = Band(x=loss, value=value, low=low, high=high)
    return band_traces(shown, name="saved", color=BLUE, group="saved", legend=False)
