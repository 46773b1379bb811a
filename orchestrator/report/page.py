"""One HTML page that shows a whole sweep and loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from plotly.offline import get_plotlyjs

from orchestrator.laws.result import Status
from orchestrator.report.advice import advice_section
from orchestrator.report.backtests import backtest_section
from orchestrator.report.data import ReportData
from orchestrator.report.figures import Draw, figure_html
from orchestrator.report.html import section
from orchestrator.report.law_cards import laws_section
from orchestrator.report.method import method_section
from orchestrator.report.plots_adaptive import adaptive_schedule
from orchestrator.report.plots_batch import critical_batch_law, trajectories
from orchestrator.report.plots_chinchilla import chinchilla_fit
from orchestrator.report.plots_compute import isoflop_curves, loss_frontier, optimal_size
from orchestrator.report.plots_curves import loss_curves
from orchestrator.report.plots_data import compute_only_test, repeated_data
from orchestrator.report.plots_envelope import training_envelope
from orchestrator.report.plots_gadre import downstream_error, overtraining_fit
from orchestrator.report.plots_hyperparameters import hyperparameter_laws
from orchestrator.report.plots_kaplan import kaplan_laws, kaplan_nd_fit
from orchestrator.report.plots_settings import beta2_map, settings_map
from orchestrator.report.searches import searches_section
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


def _drawn_laws(*draws: tuple[Draw, str]) -> Callable[[ReportData], str]:
    """Each figure where one of its laws (names apart by spaces) is there: why others are not is said once, above."""
    return lambda data: "".join(figure_html(draw, data) for draw, names in draws if _any_fitted(data, names.split()))


def _any_fitted(data: ReportData, names: Sequence[str]) -> bool:
    return any(name in data.laws and data.laws[name].status is not Status.FAILED for name in names)


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
    _Part(anchor="search", title="The path of each search", build=searches_section),
    _Part(anchor="hyperparameters", title="How the best settings change with scale", build=_drawn(hyperparameter_laws)),
    _Part(
        anchor="losses",
        title="How the loss changes with scale",
        build=_drawn_laws(
            (chinchilla_fit, "chinchilla"),
            (kaplan_laws, "kaplan-n kaplan-d kaplan-c"),
            (kaplan_nd_fit, "kaplan-nd"),
            (overtraining_fit, "overtraining"),
            (compute_only_test, "compute-only"),
        ),
    ),
    _Part(
        anchor="compute",
        title="How to spend compute",
        build=_drawn_laws(
            (isoflop_curves, "isoflop isoflop-akima"),
            (optimal_size, "isoflop isoflop-akima envelope chinchilla"),
            (loss_frontier, "frontier"),
            (training_envelope, "envelope"),
            (adaptive_schedule, "adaptive"),
        ),
    ),
    _Part(
        anchor="batch",
        title="Batch size and whole curves",
        build=_drawn_laws((critical_batch_law, "critical-batch"), (trajectories, "trajectory")),
    ),
    _Part(
        anchor="data",
        title="Repeated tokens and downstream tasks",
        build=_drawn_laws((repeated_data, "data-constrained"), (downstream_error, "downstream")),
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
