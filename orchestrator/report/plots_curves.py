"""Loss curves."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go

from orchestrator.numbers import number
from orchestrator.report.data import ReportData
from orchestrator.report.runs import run_labels, scale_names
from orchestrator.report.style import NothingToDraw, faint, finished, log_ticks, plain_log_ticks, plural, scale_colors
from orchestrator.trial import TrialState

# Losses more than this times the lowest first evaluation are off the picture: they belong to runs on their way to
# divergence and would flatten the rest. A guess.
_HEADROOM = 1.15


@dataclass(frozen=True, kw_only=True)
class _Curve:
    scale: str
    state: str
    tokens: Sequence[float]
    losses: Sequence[float]
    hover: str


def loss_curves(data: ReportData) -> go.Figure:
    """Validation loss against tokens, all trials, a colour for each scale; the best of a scale is thick.

    Raises NothingToDraw where no run has more than one point.
    """
    curves = _curves(data)
    if not curves:
        raise NothingToDraw("No loss curves: no run of this table has more than one point.")
    names = _scale_order(data, curves)
    colors = scale_colors(names)
    figure = go.Figure()
    for name in names:
        mine = [curve for curve in curves if curve.scale == name]
        _draw_scale(figure, name, mine, colors[name])
    bottom, top = _loss_range(curves)
    tokens = [t for curve in curves for t in curve.tokens]
    figure.update_xaxes(type="log", title="tokens", **log_ticks(tokens))
    figure.update_yaxes(
        type="log", title="validation loss, nats per token", range=[bottom, top], **plain_log_ticks(10**bottom, 10**top)
    )
    figure.update_layout(updatemenus=[_menu(figure, names)], legend={"title": "scale"})
    return finished(figure, caption=_caption(data, curves), height=560)


def _curves(data: ReportData) -> list[_Curve]:
    return _trial_curves(data) if data.curves else _table_curves(data)


def _trial_curves(data: ReportData) -> list[_Curve]:
    labels = run_labels(data)
    curves = []
    for trial in data.trials:
        points = data.curves.get(trial.key, ())
        if not points:
            continue
        final = (
            f"final loss {number(trial.loss, 5)}"
            if trial.loss is not None
            else f"last loss {number(points[-1].loss, 5)}"
        )
        curves.append(
            _Curve(
                scale=trial.scale,
                state=trial.state.value,
                tokens=[point.tokens for point in points],
                losses=[point.loss for point in points],
                hover=f"<b>{escape(labels[trial.key])}</b><br>{final}, {trial.state.value}<br>"
                f"proposed by: {escape(trial.reason.value)}",
            )
        )
    return curves


def _table_curves(data: ReportData) -> list[_Curve]:
    labels, names = run_labels(data), scale_names(data)
    points = defaultdict(list)
    for record in data.records:
        if record.tokens and record.loss and record.params:
            points[record.run_id].append(record)
    curves = []
    for run, records in points.items():
        if len(records) < 2:
            continue
        ordered = sorted(records, key=lambda record: record.tokens or 0)
        curves.append(
            _Curve(
                scale=names[ordered[0].params or 0],
                state=ordered[-1].status,
                tokens=[record.tokens or 0 for record in ordered],
                losses=[record.loss or 0 for record in ordered],
                hover=f"<b>{escape(labels[run])}</b><br>final loss {number(ordered[-1].loss, 5)}, {ordered[-1].status}",
            )
        )
    return curves


def _scale_order(data: ReportData, curves: Sequence[_Curve]) -> list[str]:
    present = {curve.scale for curve in curves}
    known = [scale.name for scale in data.plan.scales] if data.plan else list(scale_names(data).values())
    return [name for name in dict.fromkeys(known) if name in present]


def _draw_scale(figure: go.Figure, name: str, curves: Sequence[_Curve], color: str) -> None:
    diverged = [curve for curve in curves if curve.state == TrialState.DIVERGED]
    measured = [curve for curve in curves if curve.state == TrialState.COMPLETED]
    others = [curve for curve in curves if curve.state not in {TrialState.DIVERGED, TrialState.COMPLETED}]
    best = min(measured, key=lambda curve: curve.losses[-1], default=None)
    rest = [curve for curve in measured if curve is not best]
    for group, line in (
        (rest, {"color": faint(color, 0.45), "width": 1.2}),
        (diverged, {"color": color, "width": 1.3, "dash": "dash"}),
        (others, {"color": color, "width": 1.3, "dash": "dot"}),
        ([best] if best else [], {"color": color, "width": 3}),
    ):
        if group:
            figure.add_trace(_lines(name, group, line))
    figure.add_trace(
        go.Scatter(
            x=[None], y=[None], mode="lines", name=escape(name), legendgroup=name, line={"color": color, "width": 3}
        )
    )


def _lines(name: str, curves: Sequence[_Curve], line: dict[str, object]) -> go.Scatter:
    """Many curves as one trace with gaps: hundreds of traces would make the page slow."""
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for curve in curves:
        x += [*curve.tokens, None]
        y += [*curve.losses, None]
        text += [curve.hover] * len(curve.tokens) + [""]
    return go.Scatter(
        x=x,
        y=y,
        text=text,
        mode="lines",
        line=line,
        legendgroup=name,
        showlegend=False,
        hovertemplate="%{text}<br>%{y:.4f} after %{x:.3s} tokens<extra></extra>",
    )


def _loss_range(curves: Sequence[_Curve]) -> tuple[float, float]:
    """Range of the loss axis in log10, from the lowest loss to what an untrained run starts at."""
    finite = [[loss for loss in curve.losses if loss > 0 and math.isfinite(loss)] for curve in curves]
    lowest = min(min(losses) for losses in finite if losses)
    starts = sorted(losses[0] for losses in finite if losses)
    top = starts[int(0.9 * (len(starts) - 1))] * _HEADROOM
    return math.log10(lowest) - 0.02, math.log10(max(top, lowest * 1.05))


def _menu(figure: go.Figure, names: Sequence[str]) -> dict[str, object]:
    groups = [trace.legendgroup for trace in figure.data]
    choices = [("all scales", [True] * len(groups)), *((name, [group == name for group in groups]) for name in names)]
    return {
        "buttons": [
            {"label": escape(label), "method": "restyle", "args": ["visible", shown]} for label, shown in choices
        ],
        "x": 0.0,
        "xanchor": "left",
        "y": 1.0,
        "yanchor": "bottom",
        "pad": {"b": 6},
        "bgcolor": "white",
        "font": {"size": 12},
    }


def _caption(data: ReportData, curves: Sequence[_Curve]) -> str:
    states = [curve.state for curve in curves]
    diverged = states.count(TrialState.DIVERGED)
    missing = len(data.trials) - len(curves) if data.trials else 0
    text = f"n = {plural(len(curves), 'run')}, {plural(sum(len(c.tokens) for c in curves), 'point')}. "
    text += "The best completed run of each scale is thick; "
    text += f"{plural(diverged, 'diverged run')} dashed." if diverged else "no run diverged."
    running = sum(state not in {TrialState.DIVERGED, TrialState.COMPLETED} for state in states)
    text += f" {plural(running, 'run')} that did not end dotted." if running else ""
    if missing:
        text += f" Left out: {plural(missing, 'trial')} without a point."
    return text
