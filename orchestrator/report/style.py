"""How the page looks and how it writes numbers: colours, fonts, one layout for all figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from orchestrator.numbers import count, number
from search_spaces.errors import ScalesweepError

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
INK = "#1f2933"
MUTED = "#6b7785"
GRID = "#e6eaee"
UNKNOWN = "–"
_MOST_TICKS = 9
# Okabe and Ito's palette (2008), made to be told apart by the colour-blind.
VERMILLION, BLUE, GREEN, ORANGE, PURPLE = "#d55e00", "#0072b2", "#009e73", "#e69f00", "#cc79a7"
# Regret: dark is good. One hue, so that it reads in grey as well.
REGRET_COLORS = ["#08306b", "#2171b5", "#6baed6", "#bdd7e7", "#eff3ff"]
# Viridis ends in a yellow that white paper swallows; the last part is left out.
_BRIGHTEST = 0.82


class NothingToDraw(ScalesweepError):
    """A figure has nothing to show; the message says why, in a sentence for the page."""


def scale_colors(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, dark to bright in the order given."""
    last = max(len(names) - 1, 1)
    places = [_BRIGHTEST * place / last for place in range(len(names))]
    return dict(zip(names, sample_colorscale("Viridis", places), strict=True)) if names else {}


def faint(color: str, opacity: float = 0.15) -> str:
    """A colour as a transparent fill. Takes '#rrggbb' and 'rgb(r, g, b)'."""
    if color.startswith("#"):
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red}, {green}, {blue}, {opacity})"
    return color.replace("rgb(", "rgba(").replace(")", f", {opacity})")


def finished(figure: go.Figure, *, caption: str, height: int, wide: bool = False) -> go.Figure:
    """The figure in the page's dress. `caption` travels in `layout.meta`; `wide` ones scroll on a phone."""
    figure.update_layout(
        template="plotly_white",
        font={"family": FONT, "size": 13, "color": INK},
        height=height,
        margin={"l": 62, "r": 18, "t": 56, "b": 52},
        hoverlabel={"font": {"family": FONT, "size": 12}, "align": "left", "namelength": 0},
        legend={"font": {"size": 12}, "groupclick": "togglegroup"},
        meta={"caption": caption, "wide": wide},
        dragmode="zoom",
    )
    axis = {
        "gridcolor": GRID,
        "linecolor": MUTED,
        "showline": True,
        "ticks": "outside",
        "tickcolor": MUTED,
        "zeroline": False,
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def caption(figure: go.Figure) -> str:
    """What the figure shows, its n, and what it leaves out."""
    return str(figure.layout.meta["caption"])


def log_axis(**more: object) -> dict[str, object]:
    """A logarithmic axis with few labels: 1, 2, 5 of each decade where it is short, whole decades else."""
    return {"type": "log", "exponentformat": "power", "minor": {"ticks": "outside", "ticklen": 2}, **more}


def log_ticks(values: Sequence[float], *, write: str = "si", most: int = 7) -> dict[str, object]:
    """Ticks of a log axis at 1, 2, 5 (or decades alone where there would be more than `most`).

    `write` is "si" for counts (20M) or "plain" for settings (2e-3).
    """
    usable = [value for value in values if value > 0 and math.isfinite(value)]
    if not usable:
        return {}
    first, last = math.floor(math.log10(min(usable))) - 1, math.ceil(math.log10(max(usable))) + 1
    inside = (min(usable) / 2, max(usable) * 2)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**power for power in range(first, last + 1) for m in steps]
        ticks = [tick for tick in ticks if inside[0] <= tick <= inside[1]]
        if len(ticks) <= most:
            break
    text = [count(tick) if write == "si" else number(tick, 2) for tick in ticks]
    return {"tickvals": ticks, "ticktext": text}


def plain_log_ticks(low: float, high: float) -> dict[str, object]:
    """Plain numbers on a short log axis, where decades alone would leave it bare."""
    for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0):
        multiples = range(math.ceil(low / step), math.floor(high / step) + 1)
        if len(multiples) <= _MOST_TICKS:
            ticks = [round(step * multiple, 6) for multiple in multiples]
            return {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    return {}


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as a percentage."""
    return UNKNOWN if fraction is None else f"{number(100 * fraction, digits)} %"


def plural(amount: int, word: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{amount:,} {word}" if amount == 1 else f"{amount:,} {word}s"
