"""Maps of the settings that were tried in each cell, coloured by regret."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.report.data import ReportData
from orchestrator.report.runs import CellView, cells, run_labels
from orchestrator.report.settings_marks import (
    BATCH,
    BETA2,
    LEARNING_RATE,
    REGRET_RANGE,
    Side,
    legend_entries,
    panel,
    places,
    tried,
)
from orchestrator.report.style import (
    MUTED,
    REGRET_COLORS,
    NothingToDraw,
    finished,
    percent,
    plural,
)

# More panels than this are no picture any more; the cells with the most runs are shown. A guess.
_MOST_PANELS = 24
_COLUMNS = 3
_PANEL_HEIGHT = 290


def settings_map(data: ReportData) -> go.Figure:
    """Learning rate x batch size of every measured trial, a panel for each cell.

    Raises NothingToDraw where the table has not both settings.
    """
    return _map(data, cells(data), LEARNING_RATE, BATCH)


def beta2_map(data: ReportData) -> go.Figure:
    """Batch size x beta2 (by log(1 - beta2)) of every measured trial, a panel for each scale's longest cell.

    Raises NothingToDraw where the table has not both settings.
    """
    longest = {cell.scale: cell for cell in cells(data)}
    return _map(data, tuple(longest.values()), BATCH, BETA2)


def _map(data: ReportData, found: Sequence[CellView], x: Side, y: Side) -> go.Figure:
    usable = [cell for cell in found if len(tried(cell, x, y)) > 2]
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
        subplot_titles=[escape(f"{cell.name}  (n = {len(tried(cell, x, y))})") for cell in shown],
        vertical_spacing=0.32 / rows if rows > 1 else 0,
        horizontal_spacing=0.075,
    )
    labels = run_labels(data)
    for index, cell in enumerate(shown):
        for trace in panel(data, cell, x, y, labels):
            trace.showlegend = False
            figure.add_trace(trace, row=index // columns + 1, col=index % columns + 1)
        _edges(figure, cell, (x, y), row=index // columns + 1, col=index % columns + 1)
    figure.add_traces(legend_entries())
    _axes(figure, shown, x, y)
    _legend(figure)
    height = rows * _PANEL_HEIGHT + 120
    return finished(figure, caption=_caption(shown, len(usable) - len(shown), x, y), height=height, wide=True)


def _edges(figure: go.Figure, cell: CellView, sides: tuple[Side, Side], *, row: int, col: int) -> None:
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


def _axes(figure: go.Figure, shown: Sequence[CellView], x: Side, y: Side) -> None:
    across = [place for cell in shown for place in places(tried(cell, x, y), x)]
    up = [place for cell in shown for place in places(tried(cell, x, y), y)]
    figure.update_xaxes(type="log", range=_range(across), tickangle=0, **x.ticks(across))
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
    ticks = [value for value in (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3) if REGRET_RANGE[0] <= value <= REGRET_RANGE[1]]
    figure.update_layout(
        coloraxis={
            "colorscale": REGRET_COLORS,
            "cmin": math.log10(REGRET_RANGE[0]),
            "cmax": math.log10(REGRET_RANGE[1]),
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


def _caption(shown: Sequence[CellView], hidden: int, x: Side, y: Side) -> str:
    found = [record for cell in shown for record in tried(cell, x, y)]
    runs = len({record.run_id for record in found})
    diverged = sum(record.status == "diverged" for record in found)
    text = f"n = {plural(runs, 'run')} in {plural(len(shown), 'cell')} (a long run is read in the shorter cells too). "
    text += "Regret is the relative loss above the cell's fitted best; dark is good. "
    text += f"{plural(diverged, 'diverged run')} shown as crosses. " if diverged else ""
    text += "The dashed frame is the edge of the space." if any(cell.space for cell in shown) else ""
    if hidden:
        text += f" Left out: {plural(hidden, 'cell')} with fewer runs."
    return text
