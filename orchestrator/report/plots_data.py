"""What repeating the data costs, with the test whether anything but compute matters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.laws import compute_only, data_constrained
from orchestrator.laws.result import FittedLaw, Floats, Status
from orchestrator.numbers import count, number
from orchestrator.report.bands import band, band_traces, log_line
from orchestrator.report.data import ReportData
from orchestrator.report.envelope import envelope
from orchestrator.report.style import (
    BLUE,
    INK,
    MUTED,
    NothingToDraw,
    finished,
    log_ticks,
    plain_log_ticks,
    plural,
    scale_colors,
)

# More curves than this are drawn without a line each.
_MOST_LINES = 12


def repeated_data(data: ReportData) -> go.Figure:
    """Loss against epochs at each size and number of unique tokens, lines are the law.

    Raises NothingToDraw where the law was not fitted.
    """
    law = _fitted(data, data_constrained.NAME)
    repeated = data_constrained.repeated_points(data.whole_curves)
    points, epochs = repeated.points, repeated.points.tokens / repeated.unique
    groups = sorted(set(zip(points.params, repeated.unique, strict=True)))
    groups = [each for each in groups if (_of(points.params, repeated.unique, each) & (epochs > 1)).any()]
    figure = go.Figure()
    for group, color in zip(groups, scale_colors([str(each) for each in groups]).values(), strict=True):
        rows = np.flatnonzero(_of(points.params, repeated.unique, group))
        shown = _Curve(params=float(group[0]), unique=float(group[1]), color=color)
        if len(groups) <= _MOST_LINES:
            figure.add_traces(shown.line(law, float(epochs[rows].max())))
        figure.add_trace(shown.marks(points.tokens[rows], points.loss[rows]))
    figure.update_xaxes(type="log", title="epochs", **log_ticks([1.0, *epochs], write="plain"))
    low, high = float(points.loss.min()), float(points.loss.max())
    figure.update_yaxes(type="log", title="nats per token", **plain_log_ticks(low, high))
    figure.update_layout(legend={"title": "params, unique tokens"})
    worth = law.value("R_D")
    text = f"n = {plural(int((epochs > 1).sum()), 'point')} beyond one epoch, at {plural(len(groups), 'curve')}; lines "
    text += f"are the law data-constrained. Repeating for ever is worth {number(1 + worth, 3)} epochs of new tokens."
    return finished(figure, caption=text + _weak(law), height=440)


def compute_only_test(data: ReportData) -> go.Figure:
    """Loss against compute with Guo's line, and what is left over against N/D.

    Raises NothingToDraw where the law was not fitted.
    """
    law = _fitted(data, compute_only.NAME)
    points = envelope(data).points
    values = {name: estimate.value for name, estimate in law.parameters.items()}
    left = points.loss - compute_only.loss(values, points.flops)
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.13, subplot_titles=["loss, the line is the law", "nats above the law"]
    )
    x = log_line(float(points.flops.min()) / 1.5, float(points.flops.max()) * 1.5)
    drawn = band(law, x, lambda parameters: compute_only.loss(parameters, x))
    figure.add_traces(band_traces(drawn, name="the law", color=BLUE, group="law", legend=False), rows=1, cols=1)
    rows = zip(points.params, points.tokens, points.loss, strict=True)
    text = [f"<b>{count(n)} params, {count(d)} tokens</b><br>loss {number(loss, 5)}" for n, d, loss in rows]
    for column, (across, up) in enumerate(
        ((points.flops, points.loss), (points.params / points.tokens, left)), start=1
    ):
        marks = go.Scatter(
            x=across, y=up, text=text, mode="markers", showlegend=False, marker={"color": INK, "size": 7},
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
        figure.add_trace(marks, row=1, col=column)
    figure.add_hline(y=0, line={"color": MUTED, "width": 1}, row=1, col=2)
    figure.update_xaxes(type="log", title="FLOP", exponentformat="power", row=1, col=1)
    figure.update_xaxes(type="log", title="params / tokens", exponentformat="power", row=1, col=2)
    figure.update_yaxes(title="nats per token", row=1, col=1)
    words = f"n = {plural(len(points.loss), 'point')}. {_tests(law)}"
    return finished(figure, caption=words + _weak(law), height=420, wide=True)


@dataclass(frozen=True, kw_only=True)
class _Curve:
    """The runs of one size on one set of unique tokens."""

    params: float
    unique: float
    color: str

    @property
    def name(self) -> str:
        """For the legend."""
        return f"{count(self.params)}, {count(self.unique)}"

    def line(self, law: FittedLaw, epochs: float) -> list[go.Scatter]:
        """The law from one epoch on."""
        x = log_line(1.0, max(epochs, 1.0) * 1.3)
        drawn = band(law, x, lambda p: data_constrained.loss(p, self.params, x * self.unique, self.unique))
        return band_traces(drawn, name=self.name, color=self.color, group=self.name, legend=False)

    def marks(self, tokens: Floats, loss: Floats) -> go.Scatter:
        """The measured losses."""
        epochs = tokens / self.unique
        return go.Scatter(
            x=epochs,
            y=loss,
            text=[
                f"<b>{self.name}</b><br>{number(epoch, 3)} epochs, loss {number(value, 5)}"
                for epoch, value in zip(epochs, loss, strict=True)
            ],
            mode="markers",
            name=self.name,
            legendgroup=self.name,
            marker={"color": self.color, "size": 8, "line": {"color": "white", "width": 0.8}},
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip


def _of(params: Floats, unique: Floats, group: tuple[float, float]) -> npt.NDArray[np.bool_]:
    return np.asarray((params == group[0]) & (unique == group[1]))


def _tests(law: FittedLaw) -> str:
    rows = [
        f"adding {row['adds']}: likelihood-ratio statistic {number(row['statistic'], 3)} with "
        f"{row['degrees_of_freedom']} degrees of freedom, p = {number(row['p_value'], 2)}"
        for row in law.tables.get("tests", ())
    ]
    return "Does the split matter? " + ("; ".join(rows) if rows else "These runs cannot tell") + "."


def _fitted(data: ReportData, name: str) -> FittedLaw:
    law = data.laws.get(name)
    if law is None or law.status is Status.FAILED:
        raise NothingToDraw(f"No law {name}: {data.not_fitted.get(name, 'it was not fitted')}.")
    return law


def _weak(law: FittedLaw) -> str:
    return f" Weak: {law.reason}." if law.status is Status.WEAK else ""
