"""One HTML page that shows a whole sweep and loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from plotly.offline import get_plotlyjs

from orchestrator.report.advice import advice_section
from orchestrator.report.backtests import backtest_section
from orchestrator.report.data import ReportData
from orchestrator.report.figures import Draw, figure_html
from orchestrator.report.html import section
from orchestrator.report.law_cards import laws_section
from orchestrator.report.method import method_section
from orchestrator.report.plots_chinchilla import chinchilla_fit
from orchestrator.report.plots_compute import isoflop_curves, loss_frontier, optimal_size
from orchestrator.report.plots_curves import loss_curves
from orchestrator.report.plots_hyperparameters import hyperparameter_laws
from orchestrator.report.plots_settings import beta2_map, settings_map
from orchestrator.report.summary import summary
from orchestrator.report.tables import cells_table, exclusions_table, failures, trials_table

# The browser itself refuses whatever would leave the page; plotly.js draws with inline styles and data: images.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)


@dataclass(frozen=True, kw_only=True)
class _Part:
    anchor: str
    title: str
    build: Callable[[ReportData], str]


def _drawn(*draws: Draw) -> Callable[[ReportData], str]:
    return lambda data: "".join(figure_html(draw, data) for draw in draws)


def _cells(data: ReportData) -> str:
    return cells_table(data) + _drawn(settings_map, beta2_map)(data)


def _runs(data: ReportData) -> str:
    return failures(data) + trials_table(data)


_PARTS = (
    _Part(anchor="advice", title="What to use next", build=advice_section),
    _Part(anchor="laws", title="The laws", build=laws_section),
    _Part(anchor="backtest", title="Prediction against measurement", build=backtest_section),
    _Part(anchor="curves", title="Loss curves", build=_drawn(loss_curves)),
    _Part(anchor="settings", title="What was tried in each cell", build=_cells),
    _Part(anchor="hyperparameters", title="How the best settings change with scale", build=_drawn(hyperparameter_laws)),
    _Part(
        anchor="losses",
        title="How the loss changes with scale",
        build=_drawn(isoflop_curves, optimal_size, loss_frontier, chinchilla_fit),
    ),
    _Part(anchor="exclusions", title="What was left out", build=exclusions_table),
    _Part(anchor="trials", title="All runs", build=_runs),
    _Part(anchor="method", title="How these numbers were made", build=method_section),
)


def render(data: ReportData) -> str:
    """The page as HTML: words first, then figures, then tables."""
    built = [(part, part.build(data)) for part in _PARTS]
    links = "".join(f'<a href="#{part.anchor}">{escape(part.title)}</a>' for part, body in built if body)
    body = "".join(section(part.anchor, part.title, body) for part, body in built)
    title = escape(data.title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}: scalesweep</title><style>{_text('page.css')}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>"
        f"<header><h1>{title}</h1>{summary(data)}<nav>{links}</nav></header><main>{body}</main>"
        f"<footer>Made by scalesweep {escape(data.context.version or '')}. This page needs no network.</footer>"
        f"<script>{_text('page.js')}</script></body></html>\n"
    )


def _text(name: str) -> str:
    return files("orchestrator.report").joinpath(name).read_text(encoding="utf-8")
