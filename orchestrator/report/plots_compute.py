"""Figures over compute: isoFLOP curves, the best size N*(C), and the lowest loss L*(C)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from orchestrator.laws import frontier, isoflop
from orchestrator.laws.budgets import Budget, budgets
from orchestrator.laws.chinchilla import optimal_params as chinchilla_params
from orchestrator.laws.published import ALLOCATIONS
from orchestrator.laws.result import FittedLaw, Status
from orchestrator.numbers import count, number
from orchestrator.report.bands import Formula, band, band_traces, log_line
from orchestrator.report.data import ReportData
from orchestrator.report.envelope import envelope
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
    log_ticks,
    plain_log_ticks,
    plural,
    scale_colors,
)

# Lines go so far beyond the largest compute, as a factor. A guess.
_BEYOND = 10.0


def isoflop_curves(data: ReportData) -> go.Figure:
    """Loss against params at equal compute, a colour for each budget, minima marked.

    Raises NothingToDraw where no compute is shared by three sizes.
    """
    shown = envelope(data)
    found = budgets(shown.points)
    if not found:
        raise NothingToDraw("No isoFLOP curves: no compute is shared by three sizes in these runs.")
    colors = scale_colors([f"{budget.flops:.2e}" for budget in found])
    figure = go.Figure()
    for budget, color in zip(found, colors.values(), strict=True):
        figure.add_trace(_budget(budget, color))
    minima = _used_minima(data)
    if minima:
        figure.add_trace(_minima(minima, "loss"))
    losses = [loss for budget in found for loss in budget.loss]
    figure.update_xaxes(type="log", title="params", **log_ticks([n for budget in found for n in budget.params]))
    figure.update_yaxes(type="log", title="loss, nats per token", **plain_log_ticks(min(losses), max(losses)))
    figure.update_layout(legend={"title": "compute, FLOP"})
    text = f"n = {plural(len(found), 'compute budget')} of {plural(sum(len(b.params) for b in found), 'point')}, "
    text += f"each {shown.words}"
    text += "." if all(b.measured for b in found) else ", read between two token counts of a size."
    left_out = len(found) - len(minima)
    if "isoflop" in data.laws:
        text += f" Diamonds are the parabolas' minima. Left out of the law: {plural(left_out, 'budget')}"
        text += " whose minimum is at the edge of the sizes." if left_out else "."
    else:
        text += f" No law: {data.not_fitted.get('isoflop', 'it was not fitted')}."
    return finished(figure, caption=text, height=480)


def _budget(budget: Budget, color: str) -> go.Scatter:
    order = np.argsort(budget.params)
    text = [
        f"<b>{count(params)} params, {count(tokens)} tokens</b><br>{number(budget.flops)} FLOP, loss {number(loss, 5)}"
        for params, tokens, loss in zip(budget.params[order], budget.tokens[order], budget.loss[order], strict=True)
    ]
    return go.Scatter(
        x=budget.params[order],
        y=budget.loss[order],
        text=text,
        mode="lines+markers",
        name=number(budget.flops, 2),
        line={"color": color, "width": 1.6},
        marker={"size": 7},
        hovertemplate="%{text}<extra></extra>",
    )


def _used_minima(data: ReportData) -> list[Mapping[str, Any]]:
    """The rows of the law `isoflop` that its line goes through."""
    law = data.laws.get("isoflop")
    return [row for row in law.tables.get("minima", ()) if row["used"]] if law else []


def _minima(rows: Sequence[Mapping[str, Any]], quantity: str) -> go.Scatter:
    errors = [row.get("log_params_stderr") or 0.0 for row in rows]
    bars = quantity == "params"
    return go.Scatter(
        x=[row["flops"] if bars else row["params"] for row in rows],
        y=[row[quantity] for row in rows],
        error_y={
            "array": [row["params"] * (np.exp(error) - 1) for row, error in zip(rows, errors, strict=True)],
            "arrayminus": [row["params"] * (1 - np.exp(-error)) for row, error in zip(rows, errors, strict=True)],
            "thickness": 1.3,
            "width": 4,
        }
        if bars
        else None,
        text=[f"<b>minimum at {number(row['flops'])} FLOP</b><br>{count(row['params'])} params" for row in rows],
        mode="markers",
        name="minima",
        marker={"symbol": "diamond", "size": 10, "color": VERMILLION, "line": {"color": "white", "width": 1}},
        hovertemplate="%{text}<extra></extra>",
    )


def optimal_size(data: ReportData) -> go.Figure:
    """N*(C) of every law that has one, with its band, beside what others published.

    Raises NothingToDraw where no law gives a best size.
    """
    found = [law for name in _ALLOCATING if (law := data.laws.get(name)) and law.status is not Status.FAILED]
    if not found:
        reasons = [f"{name}: {data.not_fitted[name]}" for name in _ALLOCATING if name in data.not_fitted]
        raise NothingToDraw(f"No law of the best size N*(C). {'; '.join(reasons) or 'None was fitted'}.")
    low, high = _compute_range(found)
    x = log_line(low, high * _BEYOND)
    figure = go.Figure()
    for law in found:
        formula, color = _ALLOCATING[law.name](x), _COLORS[law.name]
        figure.add_traces(band_traces(band(law, x, formula), name=_called(law), color=color, group=law.name))
    for allocation, dash in zip(ALLOCATIONS, ("dot", "dashdot", "dash"), strict=False):  # the first three
        figure.add_trace(_published(x, allocation.name, [allocation.params(flops) for flops in x], dash))
    minima = _used_minima(data)
    if minima:
        figure.add_trace(_minima(minima, "params"))
    drawn = [value for law in found for value in _ALLOCATING[law.name](x)(_values(law))]
    figure.add_vrect(x0=low, x1=high, fillcolor=MUTED, opacity=0.07, line_width=0, layer="below")
    figure.update_xaxes(type="log", title="training compute C, FLOP", **log_ticks([*x], write="plain", most=9))
    middle = np.log10(drawn)
    figure.update_yaxes(
        type="log", title="best params N*", range=[middle.min() - 0.7, middle.max() + 0.7], **log_ticks(drawn)
    )
    runs = max(law.runs_used for law in found)
    text = f"n = {plural(runs, 'run')}. Bands are {found[0].confidence:.0%} intervals; "
    text += "the grey part is the compute that was measured, beyond it the lines are extrapolated. "
    text += "Published lines count parameters in their own way: compare the slope more than the height."
    weak = [law.name for law in found if law.status is Status.WEAK]
    text += f" Weak: {', '.join(weak)}." if weak else ""
    return finished(figure, caption=text, height=500)


def _chinchilla(x: np.ndarray) -> Formula:
    return lambda parameters: chinchilla_params(parameters, x)


def _power(x: np.ndarray) -> Formula:
    return lambda parameters: isoflop.optimal_params(parameters, x)


_ALLOCATING = {"isoflop": _power, "isoflop-akima": _power, "chinchilla": _chinchilla}
_COLORS = {"isoflop": BLUE, "isoflop-akima": GREEN, "chinchilla": ORANGE}


def _values(law: FittedLaw) -> dict[str, Any]:
    return {name: np.asarray(estimate.value) for name, estimate in law.parameters.items()}


def _called(law: FittedLaw) -> str:
    exponent = f", a = {number(law.value('a'))}" if "a" in law.parameters else ""
    return f"{law.name}{exponent}{' (weak)' if law.status is Status.WEAK else ''}"


def _compute_range(laws: Sequence[FittedLaw]) -> tuple[float, float]:
    ranges = [law.valid["flops"] for law in laws if "flops" in law.valid]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _published(x: np.ndarray, name: str, params: Sequence[float], dash: str) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=params,
        mode="lines",
        name=name,
        line={"color": INK, "width": 1.4, "dash": dash},
        hovertemplate=f"<b>{name}</b><br>%{{y:.3s}} params at %{{x:.3s}} FLOP<extra></extra>",
    )


def loss_frontier(data: ReportData) -> go.Figure:
    """L*(C): the lowest loss at each compute, its law, and the points that it was fitted to.

    Raises NothingToDraw where the law was not fitted.
    """
    law = data.laws.get("frontier")
    if law is None or law.status is Status.FAILED:
        raise NothingToDraw(f"No law of the lowest loss L*(C): {data.not_fitted.get('frontier', 'it was not fitted')}.")
    shown = envelope(data)
    low, high = law.valid["flops"]
    x = log_line(low / 2, high * _BEYOND)
    drawn = band(law, x, lambda parameters: frontier.loss(parameters, x))
    figure = go.Figure(band_traces(drawn, name=_called(law), color=BLUE, group="frontier"))
    points = shown.points
    figure.add_trace(
        go.Scatter(
            x=points.flops,
            y=points.loss,
            text=[f"{count(n)} params, {count(d)} tokens" for n, d in zip(points.params, points.tokens, strict=True)],
            mode="markers",
            name="all cells",
            marker={"color": "#b6bfc8", "size": 6},
            hovertemplate="<b>%{text}</b><br>loss %{y:.4f}, %{x:.3s} FLOP<extra></extra>",
        )
    )
    rows = law.tables.get("frontier", ())
    figure.add_trace(
        go.Scatter(
            x=[row["flops"] for row in rows],
            y=[row["loss"] for row in rows],
            text=[f"{count(row['params'])} params, {count(row['tokens'])} tokens" for row in rows],
            mode="markers",
            name="the frontier",
            marker={"color": PURPLE, "size": 9, "line": {"color": "white", "width": 1}},
            hovertemplate="<b>%{text}</b><br>lowest loss %{y:.4f} at %{x:.3s} FLOP<extra></extra>",
        )
    )
    losses = [*points.loss, *drawn.value]
    figure.update_xaxes(type="log", title="training compute C, FLOP", **log_ticks([*x], write="plain", most=9))
    figure.update_yaxes(
        type="log", title="loss, nats per token", range=list(np.log10([min(losses) * 0.97, max(losses) * 1.02])),
        **plain_log_ticks(min(losses), max(losses)),
    )  # fmt: skip
    text = f"n = {plural(len(rows), 'point')} on the frontier of {plural(len(points.loss), 'cell')}, "
    text += f"{plural(law.runs_used, 'run')}; each is {shown.words}. The band is the {law.confidence:.0%} interval."
    text += f" Weak: {law.reason}." if law.status is Status.WEAK else ""
    return finished(figure, caption=text, height=460)
