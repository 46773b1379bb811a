"""The marks on a map of two settings: measured trials, diverged ones, the optimum, and what the law says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go

from orchestrator.laws.records import RunRecord
from orchestrator.numbers import number
from orchestrator.report.data import ReportData
from orchestrator.report.optima import law_setting, optimum_setting
from orchestrator.report.runs import CellView
from orchestrator.report.style import (
    INK,
    MUTED,
    VERMILLION,
    log_ticks,
    percent,
)

# Ends of the colour scale: regret below is noise, above all is equally bad. A guess.
REGRET_RANGE = (1e-3, 0.3)
# Where an arrow points, in degrees from upwards: (edge across, edge up).
_ANGLES = {
    ("low", None): -90, ("high", None): 90, (None, "low"): 180, (None, "high"): 0,
    ("low", "low"): -135, ("low", "high"): -45, ("high", "low"): 135, ("high", "high"): 45,
}  # fmt: skip
# An interval's end may round to 1: it is drawn here, outside every map.
_LEAST_ONE_MINUS = 1e-9
_BETA2_TICKS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One axis of a map: a setting, its title, and where on the drawn logarithmic axis a value lies."""

    setting: str
    title: str
    place: Callable[[float], float]
    ticks: Callable[[Sequence[float]], dict[str, object]]


def _beta2_place(beta2: float) -> float:
    return 1 / max(1 - beta2, _LEAST_ONE_MINUS)


def _beta2_ticks(places: Sequence[float]) -> dict[str, object]:
    shown = [beta2 for beta2 in _BETA2_TICKS if min(places) / 1.5 <= _beta2_place(beta2) <= max(places) * 1.5]
    return {"tickvals": [_beta2_place(beta2) for beta2 in shown], "ticktext": [f"{beta2:g}" for beta2 in shown]}


LEARNING_RATE = Side(
    setting="learning_rate", title="learning rate", place=float, ticks=lambda v: log_ticks(v, write="plain", most=6)
)
BATCH = Side(setting="batch_tokens", title="batch, tokens", place=float, ticks=lambda v: log_ticks(v, most=6))
BETA2 = Side(setting="beta2", title="beta2", place=_beta2_place, ticks=_beta2_ticks)


def tried(cell: CellView, x: Side, y: Side) -> list[RunRecord]:
    """The runs with both settings; failed ones measured nothing."""
    return [
        record
        for record in cell.records
        if record.status != "failed"
        and getattr(record, x.setting) is not None
        and getattr(record, y.setting) is not None
    ]


def panel(data: ReportData, cell: CellView, x: Side, y: Side, labels: dict[str, str]) -> list[go.Scatter]:
    """All marks of one cell."""
    shown = tried(cell, x, y)
    diverged = [record for record in shown if record.status == "diverged"]
    measured = [record for record in shown if record.status != "diverged" and record.loss is not None]
    traces = [_points(cell, measured, x, y, labels)]
    if diverged:
        traces.append(_diverged(diverged, x, y, labels))
    return [*traces, *optimum_marks(cell, x, y), *_prediction(data, cell, x, y)]


def places(records: Sequence[RunRecord], side: Side) -> list[float]:
    """Where the records lie on a map's axis."""
    return [side.place(getattr(record, side.setting)) for record in records]


def _points(cell: CellView, records: Sequence[RunRecord], x: Side, y: Side, labels: dict[str, str]) -> go.Scatter:
    regrets = [cell.regret(record) for record in records]
    text = [
        f"<b>{escape(labels[record.run_id])}</b><br>loss {number(record.loss, 5)}, regret {percent(regret)}"
        for record, regret in zip(records, regrets, strict=True)
    ]
    # The worst first, so that the best lie on top where points coincide.
    order = sorted(range(len(records)), key=lambda i: -regrets[i])
    return go.Scatter(
        x=[places(records, x)[i] for i in order],
        y=[places(records, y)[i] for i in order],
        text=[text[i] for i in order],
        mode="markers",
        marker={
            "color": [math.log10(max(regrets[i], REGRET_RANGE[0])) for i in order],
            "coloraxis": "coloraxis",
            "size": 9,
            "line": {"color": "#4a5560", "width": 0.7},
        },
        hovertemplate="%{text}<extra></extra>",
    )


def _diverged(records: Sequence[RunRecord], x: Side, y: Side, labels: dict[str, str]) -> go.Scatter:
    return go.Scatter(
        x=places(records, x),
        y=places(records, y),
        text=[f"<b>{escape(labels[record.run_id])}</b><br>diverged" for record in records],
        mode="markers",
        marker={"symbol": "x-thin", "size": 9, "line": {"color": MUTED, "width": 2}},
        hovertemplate="%{text}<extra></extra>",
    )


def optimum_marks(cell: CellView, x: Side, y: Side) -> list[go.Scatter]:
    """The fitted optimum with its interval as a box; an arrow where it lies on an edge."""
    across, up = optimum_setting(cell, x.setting), optimum_setting(cell, y.setting)
    if across is None or up is None:
        return []
    symbol = "cross-thin" if across.edge is None and up.edge is None else "arrow-up-open"
    angle = _ANGLES.get((across.edge, up.edge), 0)
    text = f"<b>fitted optimum</b><br>{x.title} {across.text}<br>{y.title} {up.text}"
    centre = go.Scatter(
        x=[x.place(across.value)],
        y=[y.place(up.value)],
        text=[text],
        mode="markers",
        marker={
            "symbol": symbol,
            "angle": angle,
            "size": 15,
            "line": {"color": VERMILLION, "width": 2.5},
            "color": VERMILLION,
        },
        hovertemplate="%{text}<extra></extra>",
    )
    if None in (across.low, across.high, up.low, up.high):
        return [centre]
    left, right = x.place(across.low or 0), x.place(across.high or 0)
    bottom, top = y.place(up.low or 0), y.place(up.high or 0)
    box = go.Scatter(
        x=[left, right, right, left, left],
        y=[bottom, bottom, top, top, bottom],
        mode="lines",
        line={"color": VERMILLION, "width": 1.3},
        hoverinfo="skip",
    )
    return [box, centre]


def _prediction(data: ReportData, cell: CellView, x: Side, y: Side) -> list[go.Scatter]:
    law = data.laws.get("hyperparameters")
    across, up = (law_setting(law, side.setting, params=cell.params, tokens=cell.tokens) for side in (x, y))
    if across is None or up is None:
        return []
    return [
        go.Scatter(
            x=[x.place(across)],
            y=[y.place(up)],
            text=[f"<b>what the law says here</b><br>{x.title} {number(across)}<br>{y.title} {number(up, 4)}"],
            mode="markers",
            marker={"symbol": "diamond-open", "size": 12, "color": INK, "line": {"width": 2}},
            hovertemplate="%{text}<extra></extra>",
        )
    ]


def legend_entries() -> list[go.Scatter]:
    """What the marks mean, whether or not the first panel has them."""
    marks = {
        "fitted optimum, its interval": {"symbol": "cross-thin", "line": {"color": VERMILLION, "width": 2.5}},
        "optimum on an edge": {"symbol": "arrow-up-open", "color": VERMILLION, "line": {"width": 2.5}},
        "the law": {"symbol": "diamond-open", "color": INK, "line": {"width": 2}},
        "diverged": {"symbol": "x-thin", "line": {"color": MUTED, "width": 2}},
    }
    return [
        go.Scatter(x=[None], y=[None], mode="markers", name=name, marker={"size": 11, **mark})
        for name, mark in marks.items()
    ]
