"""The hyperparameter laws: learning rate, batch size and beta2 against model size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.laws.result import FittedLaw
from orchestrator.report.bands import band, band_traces, log_line
from orchestrator.report.data import ReportData
from orchestrator.report.optima import HALF_LIFE, OptimumSetting, optimum_setting, power_law
from orchestrator.report.runs import CellView, cells
from orchestrator.report.style import MUTED, VERMILLION, NothingToDraw, finished, log_ticks, plural, scale_colors

# Lines are drawn so far beyond the largest size, as a factor, unless advice goes further. A guess.
_BEYOND = 4.0
# Lines for more ratios than this hide one another.
_MOST_RATIOS = 4
# Room above and below what is drawn, as a factor. A guess.
_ROOM = 4.0


@dataclass(frozen=True, kw_only=True)
class _Panel:
    setting: str
    title: str
    write: str


_PANELS = {
    "learning_rate": _Panel(setting="learning_rate", title="learning rate", write="plain"),
    "batch_tokens": _Panel(setting="batch_tokens", title="batch, tokens", write="si"),
    HALF_LIFE: _Panel(setting=HALF_LIFE, title="beta2 half-life, tokens", write="si"),
    "one_minus_beta2": _Panel(setting="one_minus_beta2", title="1 - beta2", write="plain"),
}


def hyperparameter_laws(data: ReportData) -> go.Figure:
    """Optimal learning rate, batch and beta2 against params, one line for each tokens_per_param.

    Raises NothingToDraw where the law was not fitted.
    """
    law = data.laws.get("hyperparameters")
    if law is None:
        raise NothingToDraw(
            f"No hyperparameter laws: {data.not_fitted.get('hyperparameters', 'they were not fitted')}."
        )
    panels = [panel for name, panel in _PANELS.items() if f"{name}.coefficient" in law.parameters]
    if not panels:
        raise NothingToDraw(f"No hyperparameter laws: {law.reason or 'none could be fitted'}.")
    views = [cell for cell in cells(data) if cell.optimum is not None]
    ratios = _ratios(views)
    colors = dict(zip(ratios, scale_colors([f"{ratio:.3g}" for ratio in ratios]).values(), strict=True))
    figure = make_subplots(rows=1, cols=len(panels), subplot_titles=[p.title for p in panels], horizontal_spacing=0.07)
    for column, panel in enumerate(panels, start=1):
        traces = [
            *_lines(data, law, panel, colors, views),
            *_optima(panel, colors, views),
            *_advised(data, panel),
        ]
        for trace in traces:
            trace.showlegend = bool(trace.showlegend) and column == 1
            figure.add_trace(trace, row=1, col=column)
        _axes(figure, traces, panel, column)
    figure.update_layout(legend={"orientation": "h", "y": -0.2, "x": 0, "yanchor": "top"})
    return finished(figure, caption=_caption(law, views), height=470, wide=True)


def _ratios(views: Sequence[CellView]) -> list[float]:
    """Rising tokens_per_param of the cells, those within a tenth taken together."""
    ratios: list[float] = []
    for ratio in sorted(view.tokens_per_param for view in views):
        if not ratios or ratio > 1.1 * ratios[-1]:
            ratios.append(ratio)
    if len(ratios) > _MOST_RATIOS:
        picked = np.linspace(0, len(ratios) - 1, _MOST_RATIOS).round().astype(int)
        ratios = [ratios[i] for i in picked]
    return ratios


def _nearest(ratio: float, ratios: Sequence[float]) -> float:
    return min(ratios, key=lambda other: abs(np.log(other / ratio)))


def _lines(
    data: ReportData, law: FittedLaw, panel: _Panel, colors: dict[float, str], views: Sequence[CellView]
) -> list[go.Scatter]:
    sizes = [view.params for view in views] or list(law.valid.get("params", (1e6, 1e9)))
    farthest = max([_BEYOND * max(sizes), *(advice.prediction.value("params") for advice in data.advice)])
    x = log_line(min(sizes) / 1.2, farthest)
    shared = f"{panel.setting}.tokens_exponent" not in law.parameters
    ratios = list(colors) or [20.0]
    traces = []
    for ratio in ratios[-1:] if shared else ratios:
        formula = power_law(panel.setting, params=x, tokens=ratio * x)
        name = "the law" if shared else f"{ratio:.3g} tokens per param"
        color = MUTED if shared else colors.get(ratio, MUTED)
        traces += band_traces(band(law, x, formula), name=name, color=color, group=f"law {ratio:.3g}")
    return traces


def _optima(panel: _Panel, colors: dict[float, str], views: Sequence[CellView]) -> list[go.Scatter]:
    traces = []
    for ratio, color in colors.items():
        mine = [view for view in views if _nearest(view.tokens_per_param, list(colors)) == ratio]
        found = [(view, optimum_setting(view, panel.setting)) for view in mine]
        known = [(view, optimum) for view, optimum in found if optimum is not None]
        inside = [(view, optimum) for view, optimum in known if optimum.edge is None]
        edge = [(view, optimum) for view, optimum in known if optimum.edge is not None]
        if inside:
            traces.append(_marks(inside, color, f"optima at {ratio:.3g} tokens per param"))
        if edge:
            traces.append(_arrows(edge, color))
    return traces


def _marks(optima: Sequence[tuple[CellView, OptimumSetting]], color: str, name: str) -> go.Scatter:
    return go.Scatter(
        x=[view.params for view, _ in optima],
        y=[optimum.value for _, optimum in optima],
        error_y={
            "array": [(optimum.high or optimum.value) - optimum.value for _, optimum in optima],
            "arrayminus": [optimum.value - (optimum.low or optimum.value) for _, optimum in optima],
            "thickness": 1.3,
            "width": 4,
            "color": color,
        },
        text=[_hover(view, optimum) for view, optimum in optima],
        mode="markers",
        name=name,
        showlegend=True,
        marker={"color": color, "size": 9, "line": {"color": "white", "width": 1}},
        hovertemplate="%{text}<extra></extra>",
    )


def _arrows(optima: Sequence[tuple[CellView, OptimumSetting]], color: str) -> go.Scatter:
    return go.Scatter(
        x=[view.params for view, _ in optima],
        y=[optimum.value for _, optimum in optima],
        text=[_hover(view, optimum) for view, optimum in optima],
        mode="markers",
        name="optimum on an edge of the space",
        showlegend=False,
        marker={
            "symbol": [f"triangle-{'down' if optimum.edge == 'low' else 'up'}-open" for _, optimum in optima],
            "color": color,
            "size": 11,
            "line": {"width": 2},
        },
        hovertemplate="%{text}<extra></extra>",
    )


def _hover(view: CellView, optimum: OptimumSetting) -> str:
    return f"<b>{escape(view.name)}</b><br>{optimum.text}<br>n = {plural(len(view.completed), 'run')}"


def _advised(data: ReportData, panel: _Panel) -> list[go.Scatter]:
    """What is advised at the next sizes, where the panel's setting is a predicted quantity."""
    known = [advice for advice in data.advice if panel.setting in advice.prediction.quantities]
    if not known:
        return []
    return [
        go.Scatter(
            x=[advice.prediction.value("params") for advice in known],
            y=[advice.prediction.value(panel.setting) for advice in known],
            text=[f"<b>advice: {escape(advice.title)}</b>" for advice in known],
            mode="markers",
            name="advice",
            legendgroup="advice",
            showlegend=True,
            marker={"symbol": "star-open", "size": 11, "color": VERMILLION, "line": {"width": 1.6}},
            hovertemplate="%{text}<br>%{y:.3g} at %{x:.3s} params<extra></extra>",
        )
    ]


def _axes(figure: go.Figure, traces: Sequence[go.Scatter], panel: _Panel, column: int) -> None:
    sizes = [value for trace in traces for value in trace.x]
    # The bands of a weak law span many decades: what is measured and the line decide the range.
    values = [value for trace in traces if trace.fill is None for value in trace.y]
    low, high = min(values) / _ROOM, max(values) * _ROOM
    figure.update_xaxes(type="log", title="params", row=1, col=column, **log_ticks(sizes, most=6))
    span = [math.log10(low), math.log10(high)]
    figure.update_yaxes(type="log", range=span, row=1, col=column, **log_ticks([low, high], write=panel.write, most=9))


def _caption(law: FittedLaw, views: Sequence[CellView]) -> str:
    settings = ("learning_rate", "batch_tokens")
    optima = [optimum_setting(view, setting) for view in views for setting in settings]
    edges = sum(optimum is not None and optimum.edge is not None for optimum in optima)
    text = f"n = {plural(len(views), 'cell')}, {plural(law.runs_used, 'run')}. "
    text += f"Bars and bands are {law.confidence:.0%} intervals, the bands from joint draws. "
    if edges:
        text += (
            f"{edges} {'optimum' if edges == 1 else 'optima'} on an edge of the space: open triangles, bounds only. "
        )
    if law.runs_excluded:
        text += f"Left out: {plural(len(law.runs_excluded), 'run')}, listed below."
    return text
