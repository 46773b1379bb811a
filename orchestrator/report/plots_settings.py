"""Maps of the settings that were tried in each cell, coloured by regret."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.laws.records import RunRecord
from orchestrator.numbers import number
from orchestrator.report.data import ReportData
from orchestrator.report.optima import law_setting, optimum_setting
from orchestrator.report.runs import CellView, cells, run_labels
from orchestrator.report.style import (
    INK,
    MUTED,
    REGRET_COLORS,
    VERMILLION,
    NothingToDraw,
    finished,
    log_ticks,
    percent,
    plural,
)

# More panels than this are no picture any more; the cells with the most runs are shown. A guess.
_MOST_PANELS = 24
_COLUMNS = 3
_PANEL_HEIGHT = 290
# Ends of the colour scale: regret below is noise, above all is equally bad. A guess.
_REGRET_RANGE = (1e-3, 0.3)
_BETA2_TICKS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999)


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One axis of a map: a setting, its title, and where on the drawn logarithmic axis a value lies."""

    setting: str
    title: str
    place: Callable[[float], float]
    ticks: Callable[[Sequence[float]], dict[str, object]]


def _beta2_place(beta2: float) -> float:
    return 1 / (1 - beta2)


def _beta2_ticks(places: Sequence[float]) -> dict[str, object]:
    shown = [beta2 for beta2 in _BETA2_TICKS if min(places) / 1.5 <= _beta2_place(beta2) <= max(places) * 1.5]
    return {"tickvals": [_beta2_place(beta2) for beta2 in shown], "ticktext": [f"{beta2:g}" for beta2 in shown]}


_LEARNING_RATE = _Side(
    setting="learning_rate", title="learning rate", place=float, ticks=lambda v: log_ticks(v, write="plain", most=7)
)
_BATCH = _Side(setting="batch_tokens", title="batch, tokens", place=float, ticks=lambda v: log_ticks(v, most=6))
_BETA2 = _Side(setting="beta2", title="beta2", place=_beta2_place, ticks=_beta2_ticks)


def settings_map(data: ReportData) -> go.Figure:
    """Learning rate x batch size of every measured trial, a panel for each cell.

    Raises NothingToDraw where the table has not both settings.
    """
    return _map(data, cells(data), _LEARNING_RATE, _BATCH)


def beta2_map(data: ReportData) -> go.Figure:
    """Batch size x beta2 (by log(1 - beta2)) of every measured trial, a panel for each scale's longest cell.

    Raises NothingToDraw where the table has not both settings.
    """
    longest = {cell.scale: cell for cell in cells(data)}
    return _map(data, tuple(longest.values()), _BATCH, _BETA2)


def _map(data: ReportData, found: Sequence[CellView], x: _Side, y: _Side) -> go.Figure:
    usable = [cell for cell in found if len(_tried(cell, x, y)) > 2]
    if not usable:
        raise NothingToDraw(
            f"No map of {x.title} and {y.title}: no cell has three runs with both settings in this table."
        )
    most = sorted(usable, key=lambda cell: -len(cell.records))[:_MOST_PANELS]
    shown = [cell for cell in usable if cell in most]
    rows = -(-len(shown) // _COLUMNS)
    columns = min(_COLUMNS, len(shown))
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[escape(f"{cell.name}  (n = {len(_tried(cell, x, y))})") for cell in shown],
        vertical_spacing=0.32 / rows if rows > 1 else 0,
        horizontal_spacing=0.075,
    )
    labels = run_labels(data)
    for index, cell in enumerate(shown):
        for trace in _panel(data, cell, x, y, labels):
            trace.showlegend = bool(trace.name) and index == 0
            figure.add_trace(trace, row=index // columns + 1, col=index % columns + 1)
        _edges(figure, cell, (x, y), row=index // columns + 1, col=index % columns + 1)
    _axes(figure, shown, x, y)
    _legend(figure)
    height = rows * _PANEL_HEIGHT + 120
    return finished(figure, caption=_caption(shown, len(usable) - len(shown), x, y), height=height, wide=True)


def _tried(cell: CellView, x: _Side, y: _Side) -> list[RunRecord]:
    return [
        record
        for record in cell.records
        if record.status != "failed"
        and getattr(record, x.setting) is not None
        and getattr(record, y.setting) is not None
    ]


def _panel(data: ReportData, cell: CellView, x: _Side, y: _Side, labels: dict[str, str]) -> list[go.Scatter]:
    tried = _tried(cell, x, y)
    diverged = [record for record in tried if record.status == "diverged"]
    measured = [record for record in tried if record.status != "diverged" and record.loss is not None]
    traces = [_points(cell, measured, x, y, labels)]
    if diverged:
        traces.append(_diverged(diverged, x, y, labels))
    return [*traces, *_optimum(cell, x, y), *_prediction(data, cell, x, y)]


def _where(records: Sequence[RunRecord], side: _Side) -> list[float]:
    return [side.place(getattr(record, side.setting)) for record in records]


def _points(cell: CellView, records: Sequence[RunRecord], x: _Side, y: _Side, labels: dict[str, str]) -> go.Scatter:
    regrets = [cell.regret(record) for record in records]
    text = [
        f"<b>{escape(labels[record.run_id])}</b><br>loss {number(record.loss, 5)}, regret {percent(regret)}"
        for record, regret in zip(records, regrets, strict=True)
    ]
    # The worst first, so that the best lie on top where points coincide.
    order = sorted(range(len(records)), key=lambda i: -regrets[i])
    return go.Scatter(
        x=[_where(records, x)[i] for i in order],
        y=[_where(records, y)[i] for i in order],
        text=[text[i] for i in order],
        mode="markers",
        marker={
            "color": [math.log10(max(regrets[i], _REGRET_RANGE[0])) for i in order],
            "coloraxis": "coloraxis",
            "size": 9,
            "line": {"color": "#4a5560", "width": 0.7},
        },
        hovertemplate="%{text}<extra></extra>",
    )


def _diverged(records: Sequence[RunRecord], x: _Side, y: _Side, labels: dict[str, str]) -> go.Scatter:
    return go.Scatter(
        x=_where(records, x),
        y=_where(records, y),
        text=[f"<b>{escape(labels[record.run_id])}</b><br>diverged" for record in records],
        mode="markers",
        name="diverged",
        legendgroup="diverged",
        marker={"symbol": "x-thin", "size": 9, "line": {"color": MUTED, "width": 2}},
        hovertemplate="%{text}<extra></extra>",
    )


def _optimum(cell: CellView, x: _Side, y: _Side) -> list[go.Scatter]:
    """The fitted optimum with its interval as a box; an arrow where it lies on an edge."""
    across, up = optimum_setting(cell, x.setting), optimum_setting(cell, y.setting)
    if across is None or up is None:
        return []
    symbol = "cross-thin" if across.edge is None and up.edge is None else "arrow-up-open"
    angle = {("low", None): -90, ("high", None): 90, (None, "low"): 180}.get((across.edge, up.edge), 0)
    text = f"<b>fitted optimum</b><br>{x.title} {across.text}<br>{y.title} {up.text}"
    centre = go.Scatter(
        x=[x.place(across.value)],
        y=[y.place(up.value)],
        text=[text],
        mode="markers",
        name="fitted optimum and its interval (an arrow: on an edge)",
        legendgroup="optimum",
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
        legendgroup="optimum",
        line={"color": VERMILLION, "width": 1.3},
        hoverinfo="skip",
    )
    return [box, centre]


def _prediction(data: ReportData, cell: CellView, x: _Side, y: _Side) -> list[go.Scatter]:
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
            name="the law",
            legendgroup="law",
            marker={"symbol": "diamond-open", "size": 12, "color": INK, "line": {"width": 2}},
            hovertemplate="%{text}<extra></extra>",
        )
    ]


def _edges(figure: go.Figure, cell: CellView, sides: tuple[_Side, _Side], *, row: int, col: int) -> None:
    """The edges of the space as a dashed frame."""
    if cell.space is None or cell.sequence_length is None:
        return
    batch = cell.space.batch_size
    bounds = {
        "learning_rate": (cell.space.learning_rate.low, cell.space.learning_rate.high),
        "batch_tokens": (batch.low * cell.sequence_length, batch.high * cell.sequence_length),
        "beta2": (cell.space.beta2.low, cell.space.beta2.high),
    }
    (left, right), (bottom, top) = (tuple(side.place(v) for v in bounds[side.setting]) for side in sides)
    figure.add_shape(
        type="rect", x0=left, x1=right, y0=bottom, y1=top, row=row, col=col,
        line={"color": MUTED, "width": 1, "dash": "dash"}, layer="below",
    )  # fmt: skip


def _axes(figure: go.Figure, shown: Sequence[CellView], x: _Side, y: _Side) -> None:
    across = [place for cell in shown for place in _where(_tried(cell, x, y), x)]
    up = [place for cell in shown for place in _where(_tried(cell, x, y), y)]
    figure.update_xaxes(type="log", range=_range(across), **x.ticks(across))
    figure.update_yaxes(type="log", range=_range(up), **y.ticks(up))
    columns = min(_COLUMNS, len(shown))
    for index in range(len(shown)):
        row, col = index // columns + 1, index % columns + 1
        if index + columns >= len(shown):
            figure.update_xaxes(title=x.title, row=row, col=col)
        if col == 1:
            figure.update_yaxes(title=y.title, row=row, col=col)


def _range(places: Sequence[float]) -> list[float]:
    """Range of a logarithmic axis in log10, with room for the frame of the space."""
    low, high = math.log10(min(places)), math.log10(max(places))
    room = max(0.08 * (high - low), 0.1)
    return [low - room, high + room]


def _legend(figure: go.Figure) -> None:
    ticks = [value for value in (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3) if _REGRET_RANGE[0] <= value <= _REGRET_RANGE[1]]
    figure.update_layout(
        coloraxis={
            "colorscale": REGRET_COLORS,
            "cmin": math.log10(_REGRET_RANGE[0]),
            "cmax": math.log10(_REGRET_RANGE[1]),
            "colorbar": {
                "title": {"text": "regret"},
                "tickvals": [math.log10(value) for value in ticks],
                "ticktext": [percent(value, 1) for value in ticks],
                "thickness": 12,
                "len": 260,
                "lenmode": "pixels",
                "y": 1,
                "yanchor": "top",
                "outlinewidth": 0,
            },
        },
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top"},
    )


def _caption(shown: Sequence[CellView], hidden: int, x: _Side, y: _Side) -> str:
    tried = [record for cell in shown for record in _tried(cell, x, y)]
    runs = len({record.run_id for record in tried})
    diverged = sum(record.status == "diverged" for record in tried)
    text = f"n = {plural(runs, 'run')} in {plural(len(shown), 'cell')} (a long run is read in the shorter cells too). "
    text += "Regret is the relative loss above the cell's fitted best; dark is good. "
    text += f"{plural(diverged, 'diverged run')} shown as crosses in the cell of their horizon. " if diverged else ""
    text += "The dashed frame is the edge of the space." if any(cell.space for cell in shown) else ""
    if hidden:
        text += f" Left out: {plural(hidden, 'cell')} with fewer runs."
    return text
