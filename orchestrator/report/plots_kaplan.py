"""Figures of Kaplan's laws: L(N), L(D), L(C) as straight lines, L(N, D) as a line a size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.laws import kaplan_c, kaplan_d, kaplan_n, kaplan_nd
from orchestrator.laws.result import FittedLaw, Floats, Status
from orchestrator.numbers import count, number
from orchestrator.report.bands import Formula, band, band_traces, log_line
from orchestrator.report.data import ReportData
from orchestrator.report.style import (
    BLUE,
    GREEN,
    MUTED,
    ORANGE,
    NothingToDraw,
    finished,
    log_ticks,
    percent,
    plain_log_ticks,
    plural,
    scale_colors,
)

# Lines go so far beyond the points, as a factor. A guess.
_BEYOND = 3.0
# More sizes than this are drawn without a line each.
_MOST_LINES = 12


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """One of the three power laws: its quantity and the table that holds its points."""

    law: str
    quantity: str
    title: str
    table: str
    color: str

    def formula(self, x: Floats) -> Formula:
        """The law along x."""
        loss = {"kaplan-n": kaplan_n.loss, "kaplan-d": kaplan_d.loss, "kaplan-c": kaplan_c.loss}[self.law]
        return lambda parameters: loss(parameters, x)


_PANELS = (
    _Panel(law=kaplan_n.NAME, quantity="params", title="params N", table="sizes", color=BLUE),
    _Panel(law=kaplan_d.NAME, quantity="tokens", title="tokens D", table="token_counts", color=GREEN),
    _Panel(law=kaplan_c.NAME, quantity="flops", title="compute C, FLOP", table="frontier", color=ORANGE),
)


def kaplan_laws(data: ReportData) -> go.Figure:
    """L(N), L(D) and L(C) side by side, each with its points, line and band.

    Raises NothingToDraw where none of the three was fitted.
    """
    found = [panel for panel in _PANELS if _usable(data.laws.get(panel.law))]
    if not found:
        reasons = [f"{p.law}: {data.not_fitted[p.law]}" for p in _PANELS if p.law in data.not_fitted]
        raise NothingToDraw(f"None of Kaplan's power laws. {'; '.join(reasons) or 'They were not fitted'}.")
    figure = make_subplots(
        rows=1, cols=len(found), horizontal_spacing=0.09, subplot_titles=[panel.law for panel in found]
    )
    for column, panel in enumerate(found, start=1):
        law = data.laws[panel.law]
        rows = law.tables[panel.table]
        figure.add_traces(_line(law, panel), rows=1, cols=column)
        figure.add_trace(_points(rows, panel), row=1, col=column)
        quantities, losses = [row[panel.quantity] for row in rows], [row["loss"] for row in rows]
        write = "plain" if panel.quantity == "flops" else "si"
        figure.update_xaxes(type="log", title=panel.title, col=column, **log_ticks(quantities, write=write, most=5))
        ticks = plain_log_ticks(min(losses) * 0.95, max(losses) * 1.05)
        figure.update_yaxes(type="log", col=column, **ticks)
    figure.update_yaxes(title="nats per token", col=1)
    text = ", ".join(f"{plural(len(data.laws[p.law].tables[p.table]), 'point')} of {p.law}" for p in found)
    text = f"n = {text}. Bands are {data.laws[found[0].law].confidence:.0%} intervals."
    text += "".join(f" {p.law} is weak: {data.laws[p.law].reason}." for p in found if _weak(data.laws[p.law]))
    return finished(figure, caption=text, height=400, wide=True)


def kaplan_nd_fit(data: ReportData) -> go.Figure:
    """Loss against tokens with the line of L(N, D) for each size, and the relative residuals.

    Raises NothingToDraw where the law was not fitted.
    """
    law = data.laws.get(kaplan_nd.NAME)
    if law is None or not _usable(law):
        raise NothingToDraw(f"No law L(N, D) by Kaplan: {data.not_fitted.get(kaplan_nd.NAME, 'it was not fitted')}.")
    points = _Points.of(law)
    figure = make_subplots(
        rows=1, cols=2, column_widths=[0.56, 0.44], horizontal_spacing=0.11,
        subplot_titles=["loss, lines are the law", "measured loss above the law"],
    )  # fmt: skip
    sizes = np.unique(points.params)
    for size, color in zip(sizes, scale_colors([str(size) for size in sizes]).values(), strict=True):
        mine = points.of_size(float(size))
        if len(sizes) <= _MOST_LINES:
            figure.add_traces(_level(law, mine, color), rows=1, cols=1)
        figure.add_trace(_marks(mine, mine.loss, color, legend=True), row=1, col=1)
        figure.add_trace(_marks(mine, mine.above, color, legend=False), row=1, col=2)
    figure.add_hline(y=0, line={"color": MUTED, "width": 1}, row=1, col=2)
    figure.update_xaxes(type="log", title="tokens", **log_ticks([*points.tokens], most=6))
    ticks = plain_log_ticks(float(points.loss.min()), float(points.loss.max()))
    figure.update_yaxes(type="log", title="nats per token", row=1, col=1, **ticks)
    figure.update_yaxes(tickformat=".1%", row=1, col=2)
    figure.update_layout(legend={"title": "params"})
    spread = float(np.sqrt(np.mean(points.above**2)))
    text = f"n = {plural(len(points.loss), 'point')} at {plural(len(sizes), 'size')}. "
    text += f"The points lie {percent(spread)} (root mean square) from the law."
    text += f" Weak: {law.reason}." if _weak(law) else ""
    return finished(figure, caption=text, height=440, wide=True)


def _usable(law: FittedLaw | None) -> bool:
    return law is not None and law.status is not Status.FAILED


def _weak(law: FittedLaw) -> bool:
    return law.status is Status.WEAK


def _values(law: FittedLaw) -> dict[str, float]:
    return {name: estimate.value for name, estimate in law.parameters.items()}


def _line(law: FittedLaw, panel: _Panel) -> list[go.Scatter]:
    low, high = law.valid[panel.quantity]
    x = log_line(low / _BEYOND, high * _BEYOND)
    drawn = band(law, x, panel.formula(x))
    return band_traces(drawn, name=panel.law, color=panel.color, group=panel.law, legend=False)


def _points(rows: Sequence[Mapping[str, Any]], panel: _Panel) -> go.Scatter:
    text = [f"<b>{count(row['params'])} params, {count(row['tokens'])} tokens</b>" for row in rows]
    return go.Scatter(
        x=[row[panel.quantity] for row in rows],
        y=[row["loss"] for row in rows],
        text=text,
        mode="markers",
        name=panel.law,
        showlegend=False,
        marker={"color": panel.color, "size": 8, "line": {"color": "white", "width": 0.8}},
        hovertemplate="%{text}<br>loss %{y:.4f}<extra></extra>",
    )


@dataclass(frozen=True, kw_only=True)
class _Points:
    """Points of L(N, D), arrays (points,); `above` is how far the loss lies above the law, relatively."""

    params: Floats
    tokens: Floats
    loss: Floats
    above: Floats

    @classmethod
    def of(cls, law: FittedLaw) -> _Points:
        """The points that the law was fitted to."""
        rows = law.tables["points"]
        params, tokens, loss = (np.array([row[name] for row in rows]) for name in ("params", "tokens", "loss"))
        return cls(
            params=params, tokens=tokens, loss=loss, above=loss / kaplan_nd.loss(_values(law), params, tokens) - 1
        )

    def of_size(self, size: float) -> _Points:
        """Those of one size."""
        rows = self.params == size
        return _Points(params=self.params[rows], tokens=self.tokens[rows], loss=self.loss[rows], above=self.above[rows])


def _level(law: FittedLaw, points: _Points, color: str) -> list[go.Scatter]:
    size = float(points.params[0])
    x = log_line(float(points.tokens.min()) / 1.3, float(points.tokens.max()) * 1.3)
    drawn = band(law, x, lambda parameters: kaplan_nd.loss(parameters, size, x))
    return band_traces(drawn, name=count(size), color=color, group=count(size), legend=False)


def _marks(points: _Points, y: Floats, color: str, *, legend: bool) -> go.Scatter:
    size = count(float(points.params[0]))
    text = [
        f"<b>{size} params, {count(tokens)} tokens</b><br>loss {number(loss, 5)}, {percent(residual)} above the law"
        for tokens, loss, residual in zip(points.tokens, points.loss, points.above, strict=True)
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
