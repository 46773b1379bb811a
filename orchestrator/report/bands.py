"""A law drawn as a line with the band of its joint draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from orchestrator.laws.result import FittedLaw, Floats
from orchestrator.numbers import number
from orchestrator.report.style import faint

# Points of a drawn line; laws are smooth in logarithms.
_POINTS = 60
# More draws than this move no band by a visible amount.
_MOST_DRAWS = 500

Formula = Callable[[Mapping[str, Floats]], Floats]


@dataclass(frozen=True, kw_only=True)
class Band:
    """A law along `x`: its value, and its interval where the law has draws. All arrays of one length."""

    x: Floats
    value: Floats
    low: Floats | None = None
    high: Floats | None = None


def log_line(low: float, high: float) -> Floats:
    """Evenly spaced in logarithms, both ends included."""
    return np.asarray(np.geomspace(low, high, _POINTS), dtype=np.float64)


def band(law: FittedLaw, x: Floats, formula: Formula) -> Band:
    """The formula along x with the interval of the law's confidence.

    `formula` maps parameters by name to values that broadcast against x (each of shape () or (draws, 1)).
    """
    value = formula({name: np.asarray(estimate.value) for name, estimate in law.parameters.items()})
    if not law.draws:
        return Band(x=x, value=value)
    drawn = formula({name: np.asarray(values)[:_MOST_DRAWS, None] for name, values in law.draws.items()})
    tail = (1 - law.confidence) / 2
    finite = np.where(np.isfinite(drawn), drawn, np.nan)
    if np.isnan(finite).all(axis=0).any():
        return Band(x=x, value=value)
    low, high = np.nanquantile(finite, [tail, 1 - tail], axis=0)
    return Band(x=x, value=value, low=low, high=high)


def band_traces(shown: Band, *, name: str, color: str, group: str, legend: bool = True) -> list[go.Scatter]:
    """The line, and under it the band as a filled area."""
    traces = []
    if shown.low is not None and shown.high is not None:
        traces.append(
            go.Scatter(
                x=np.concatenate([shown.x, shown.x[::-1]]),
                y=np.concatenate([shown.high, shown.low[::-1]]),
                fill="toself",
                fillcolor=faint(color),
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                legendgroup=group,
                showlegend=False,
            )
        )
    traces.append(
        go.Scatter(
            x=shown.x,
            y=shown.value,
            mode="lines",
            name=name,
            line={"color": color, "width": 2},
            legendgroup=group,
            showlegend=legend,
            text=_interval_text(shown),
            hovertemplate=f"<b>{name}</b><br>%{{text}} at %{{x:.3s}}<extra></extra>",
        )
    )
    return traces


def _interval_text(shown: Band) -> list[str]:
    if shown.low is None or shown.high is None:
        return [number(value, 4) for value in shown.value]
    rows = zip(shown.value, shown.low, shown.high, strict=True)
    return [f"{number(value, 4)} ({number(low, 4)} to {number(high, 4)})" for value, low, high in rows]
