"""One HTML page that shows a whole sweep and loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from orchestrator.report.data import ReportData
from orchestrator.report.html import section
from orchestrator.report.style import NothingToDraw, caption

# The browser itself refuses whatever would leave the page; plotly.js draws with inline styles and data: images.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "showSendToCloud": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d"],
}


@dataclass(frozen=True, kw_only=True)
class _Part:
    anchor: str
    title: str
    build: Callable[[ReportData], str]
