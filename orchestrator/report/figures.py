"""A figure as a piece of the page: its div, its numbers, and its caption."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape

import plotly.graph_objects as go

from orchestrator.report.data import ReportData
from orchestrator.report.style import NothingToDraw, caption

Draw = Callable[[ReportData], go.Figure]

_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "showSendToCloud": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}


def figure_html(draw: Draw, data: ReportData) -> str:
    """The figure, or the sentence that says why there is none."""
    try:
        figure = draw(data)
    except NothingToDraw as absent:
        return f'<p class="absent">{escape(str(absent))}</p>'
    anchor = draw.__name__
    kind = "wide" if figure.layout.meta["wide"] else "fitting"
    height = int(figure.layout.height)
    return (
        f'<figure class="{kind}"><div class="plot"><div id="{anchor}" style="height:{height}px"></div></div>'
        f"<figcaption>{escape(caption(figure))}</figcaption></figure>"
        f"<script>Plotly.newPlot({json.dumps(anchor)}, ...{_arguments(figure)})</script>"
    )


def _arguments(figure: go.Figure) -> str:
    """Data, layout and configuration as JSON that cannot end the script it stands in."""
    body = json.loads(figure.to_json())
    text = json.dumps([body["data"], body["layout"], _CONFIG], separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028")
