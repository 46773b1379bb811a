"""Figures of batch size: the critical batch over the loss, loss curves beside their law."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.laws import critical_batch, trajectory
from orchestrator.laws.batch_curves import BatchCurves, batch_curves
from orchestrator.laws.result import FittedLaw, Floats, Status
from orchestrator.numbers import count, number
from orchestrator.report.bands import band, band_traces, log_line
from orchestrator.report.data import ReportData
from orchestrator.report.style import (
    INK,
    NothingToDraw,
    finished,
    log_ticks,
    percent,
    plain_log_ticks,
    plural,
    scale_colors,
)

# Hyperbolas that are drawn: more lie on each other.
_MOST_LEVELS = 6
# Lines go so far beyond the loss levels and the steps that were measured, as a factor. A guess.
_BEYOND = 1.1
# More sizes have no room, more batch sizes no colours to tell them apart.
_MOST_SIZES = 6
_PANELS_PER_ROW = 3
_MOST_BATCHES = 8


def critical_batch_law(data: ReportData) -> go.Figure:
    """B_crit against loss with the law's line, and steps against tokens at some loss levels of one size.

    Raises NothingToDraw where the law was not fitted.
    """
    law = _law(data, critical_batch.NAME, "critical batch size")
    levels, readings = law.tables["levels"], law.tables["readings"]
    shown = _most_read(levels)
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.13,
        subplot_titles=["critical batch size", f"steps and tokens to a loss, {count(shown)} params"],
    )  # fmt: skip
    sizes = _over_loss(figure, law, levels)
    _hyperbolas(figure, law, [row for row in readings if row["params"] == shown])
    text = f"n = {plural(len(levels), 'loss level')} of {plural(sizes, 'size')}, "
    text += f"each reached at {_range([row['batches'] for row in levels])} batch sizes. Marks: one level's hyperbola "
    text += "on its own; line: the law fitted to all. Right: where tuned runs reach a loss, and the law's hyperbolas."
    return finished(figure, caption=text + data.curve_note + _weak(law), height=440, wide=True)


def trajectories(data: ReportData) -> go.Figure:
    """Measured loss against steps and the law's curves, a panel for each size, a colour for each batch size.

    Raises NothingToDraw where the law was not fitted.
    """
    law = _law(data, trajectory.NAME, "whole loss curves")
    curves = batch_curves(data.whole_curves, law=trajectory.NAME)
    sizes = _spread(sorted({float(size) for size in curves.params}), _MOST_SIZES)
    columns = min(_PANELS_PER_ROW, len(sizes))
    rows = -(-len(sizes) // columns)
    figure = make_subplots(
        rows=rows, cols=columns, shared_yaxes=True, shared_xaxes=True, horizontal_spacing=0.03, vertical_spacing=0.12,
        subplot_titles=[f"{count(size)} params" for size in sizes],
    )  # fmt: skip
    drawn = _panels(figure, law, curves, sizes, columns)
    figure.update_xaxes(type="log", **log_ticks([*curves.steps], most=5))
    figure.update_xaxes(title="steps", row=rows)
    figure.update_yaxes(type="log", **plain_log_ticks(float(curves.loss.min()), float(curves.loss.max())))
    figure.update_yaxes(title="nats per token", col=1)
    figure.update_layout(legend={"title": "batch, tokens"})
    text = f"n = {plural(curves.curves, 'tuned curve')} at {plural(curves.scales, 'size')}"
    text += f", of which {drawn} are shown. " if drawn < curves.curves else ". "
    errors = [row["mean_error"] for row in law.tables["curves"]]
    text += f"Marks: measured; lines: the law, {percent(float(np.sqrt(np.mean(np.square(errors)))))} "
    text += "(root mean square) from a curve."
    return finished(figure, caption=text + data.curve_note + _weak(law), height=110 + 290 * rows, wide=True)


def _over_loss(figure: go.Figure, law: FittedLaw, levels: Sequence[Mapping[str, Any]]) -> int:
    """The left panel; how many sizes it shows."""
    low, high = law.valid["loss"]
    x = log_line(low / _BEYOND, high * _BEYOND)
    drawn = band(law, x, lambda parameters: critical_batch.critical_batch(parameters, x))
    figure.add_traces(band_traces(drawn, name="law", color=INK, group="law"), rows=1, cols=1)
    sizes = sorted({row["params"] for row in levels})
    for size, color in zip(sizes, scale_colors([f"{size:g}" for size in sizes]).values(), strict=True):
        figure.add_trace(_levels([row for row in levels if row["params"] == size], color), row=1, col=1)
    figure.update_xaxes(type="log", title="loss, nats per token", row=1, col=1, **plain_log_ticks(low, high))
    ticks = log_ticks([row["critical_batch"] for row in levels])
    figure.update_yaxes(type="log", title="tokens", row=1, col=1, **ticks)
    return len(sizes)


def _panels(figure: go.Figure, law: FittedLaw, curves: BatchCurves, sizes: Sequence[float], columns: int) -> int:
    """A panel for each size; how many curves are in them."""
    batches = _spread(sorted({float(batch) for batch in curves.batch_tokens}), _MOST_BATCHES)
    colors = dict(zip(batches, scale_colors([f"{batch:g}" for batch in batches]).values(), strict=True))
    named: set[float] = set()
    drawn = 0
    for at, size in enumerate(sizes):
        for batch, color in colors.items():
            mine = np.flatnonzero((curves.params == size) & (curves.batch_tokens == batch))
            if mine.size:
                traces = _curve(law, curves, mine, color, legend=batch not in named)
                figure.add_traces(traces, rows=at // columns + 1, cols=at % columns + 1)
                named.add(batch)
                drawn += 1
    return drawn


def _law(data: ReportData, name: str, what: str) -> FittedLaw:
    law = data.laws.get(name)
    if law is None or law.status is Status.FAILED:
        raise NothingToDraw(f"No law of the {what}: {data.not_fitted.get(name, 'it was not fitted')}.")
    return law


def _most_read(levels: Sequence[Mapping[str, Any]]) -> float:
    """The size with the most readings: its hyperbolas are drawn."""
    read: dict[float, int] = {}
    for row in levels:
        read[row["params"]] = read.get(row["params"], 0) + row["batches"]
    return max(read, key=lambda size: read[size])


def _levels(rows: Sequence[Mapping[str, Any]], color: str) -> go.Scatter:
    size = count(rows[0]["params"])
    above = [(row["critical_batch_high"] or row["critical_batch"]) - row["critical_batch"] for row in rows]
    below = [row["critical_batch"] - (row["critical_batch_low"] or row["critical_batch"]) for row in rows]
    text = [
        f"<b>{size} params at loss {number(row['loss'], 4)}</b><br>B_crit {count(row['critical_batch'])} tokens, "
        f"S_min {count(row['least_steps'])} steps, E_min {count(row['least_tokens'])} tokens"
        for row in rows
    ]
    return go.Scatter(
        x=[row["loss"] for row in rows],
        y=[row["critical_batch"] for row in rows],
        error_y={"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1, "width": 0},
        text=text,
        mode="markers",
        name=f"{size} params",
        marker={"color": color, "size": 7, "line": {"color": "white", "width": 0.8}},
        hovertemplate="%{text}<extra></extra>",
    )


def _hyperbolas(figure: go.Figure, law: FittedLaw, readings: Sequence[Mapping[str, Any]]) -> None:
    """The right panel, for the readings of one size."""
    losses = _spread(sorted({row["loss"] for row in readings}), _MOST_LEVELS)
    parameters = {name: estimate.value for name, estimate in law.parameters.items()}
    for loss, color in zip(losses, scale_colors([f"{loss:g}" for loss in losses]).values(), strict=True):
        rows = [row for row in readings if row["loss"] == loss]
        steps, batches = (np.array([row[name] for row in rows]) for name in ("steps", "batch_tokens"))
        least = np.exp(np.log(critical_batch.least_steps(parameters, steps, batches, loss)).mean())
        along = log_line(float(batches.min()) / 2, float(batches.max()) * 2)
        needed = least * (1 + critical_batch.critical_batch(parameters, loss) / along)
        figure.add_trace(_hyperbola(needed, needed * along, color, f"loss {number(loss, 3)}"), row=1, col=2)
        text = [f"<b>loss {number(loss, 4)} at batch {count(batch)} tokens</b>" for batch in batches]
        figure.add_trace(_marks(steps, steps * batches, color, text), row=1, col=2)
    for update, name in ((figure.update_xaxes, "steps"), (figure.update_yaxes, "tokens")):
        update(type="log", title=name, row=1, col=2, **log_ticks([row[name] for row in readings], most=6))


def _hyperbola(x: Floats, y: Floats, color: str, name: str) -> go.Scatter:
    line = {"color": color, "width": 1.6}
    return go.Scatter(x=x, y=y, mode="lines", name=name, line=line, hovertemplate=f"{name}<extra></extra>")


def _marks(x: Floats, y: Floats, color: str, text: Sequence[str]) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y,
        text=text,
        mode="markers",
        showlegend=False,
        marker={"color": color, "size": 6, "line": {"color": "white", "width": 0.6}},
        hovertemplate="%{text}<br>%{x:.3s} steps<extra></extra>",
    )


def _curve(
    law: FittedLaw, curves: BatchCurves, mine: npt.NDArray[np.intp], color: str, *, legend: bool
) -> list[go.Scatter]:
    """The law's curve with its band, and the measured points on it."""
    size, batch = float(curves.params[mine[0]]), float(curves.batch_tokens[mine[0]])
    steps, losses = curves.steps[mine], curves.loss[mine]
    x = log_line(float(steps.min()), float(steps.max()) * _BEYOND)
    drawn = band(law, x, lambda parameters: trajectory.loss(parameters, size, x, batch))
    name = count(batch)
    text = [f"<b>{count(size)} params, batch {name} tokens</b><br>loss {number(loss, 5)}" for loss in losses]
    traces = band_traces(drawn, name=name, color=color, group=name, legend=legend)
    return [*traces, _marks(steps, losses, color, text).update(legendgroup=name)]


def _spread(values: Sequence[float], most: int) -> list[float]:
    """At most so many of the values, first and last among them."""
    if len(values) <= most:
        return list(values)
    return [values[at] for at in np.unique(np.linspace(0, len(values) - 1, most).round().astype(int))]


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def _weak(law: FittedLaw) -> str:
    return f" Weak: {law.reason}." if law.status is Status.WEAK else ""
