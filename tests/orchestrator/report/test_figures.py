"""Each figure draws a full sweep, says in a sentence why it cannot draw a poor one, and names the runs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from orchestrator.report.backtests import backtest_errors
from orchestrator.report.data import ReportData
from orchestrator.report.figures import Draw, figure_html
from orchestrator.report.plots_chinchilla import chinchilla_fit
from orchestrator.report.plots_compute import isoflop_curves, loss_frontier, optimal_size
from orchestrator.report.plots_curves import loss_curves
from orchestrator.report.plots_hyperparameters import hyperparameter_laws
from orchestrator.report.plots_settings import beta2_map, settings_map
from orchestrator.report.runs import cells, run_labels
from orchestrator.report.style import NothingToDraw, caption
from orchestrator.trial import TrialState

FIGURES: tuple[Draw, ...] = (
    loss_curves, settings_map, beta2_map, hyperparameter_laws, isoflop_curves, optimal_size, loss_frontier,
    chinchilla_fit, backtest_errors,
)  # fmt: skip
# Figures of single runs, whose points are named.
OF_RUNS = (loss_curves, settings_map, beta2_map)


def hovers(figure: go.Figure) -> str:
    return " ".join(text for trace in figure.data for text in (trace.text or ()))


@pytest.mark.parametrize("draw", FIGURES)
def test_a_full_sweep_is_drawn_with_its_n(draw: Draw, sweep: ReportData) -> None:
    figure = draw(sweep)
    assert len(figure.data) > 0
    assert caption(figure).startswith("n = ")
    assert f'id="{draw.__name__}"' in figure_html(draw, sweep)


@pytest.mark.parametrize("draw", FIGURES)
def test_drawn_numbers_fit_the_axes(draw: Draw, sweep: ReportData) -> None:
    figure = draw(sweep)
    for trace in figure.data:
        drawn = [value for value in (trace.x if trace.x is not None else ()) if isinstance(value, float | int)]
        assert all(math.isfinite(value) and value > 0 for value in drawn)


@pytest.mark.parametrize("draw", FIGURES)
def test_a_table_without_anything_gets_a_sentence(draw: Draw, empty: ReportData) -> None:
    with pytest.raises(NothingToDraw):
        draw(empty)
    assert 'class="absent"' in figure_html(draw, empty)


@pytest.mark.parametrize("draw", FIGURES)
def test_a_foreign_table_gets_a_figure_or_a_sentence(draw: Draw, minimal: ReportData) -> None:
    body = figure_html(draw, minimal)
    assert body.startswith(("<figure", '<p class="absent"'))


@pytest.mark.parametrize("draw", FIGURES)
def test_without_laws_no_figure_breaks(draw: Draw, sweep: ReportData) -> None:
    body = figure_html(draw, replace(sweep, laws={}, not_fitted={}))
    assert body.startswith(("<figure", '<p class="absent"'))


@pytest.mark.parametrize("draw", OF_RUNS)
def test_hovering_names_the_run(draw: Draw, sweep: ReportData) -> None:
    trial = next(trial for trial in reversed(sweep.trials) if trial.state is TrialState.COMPLETED)
    label = run_labels(sweep)[trial.key]
    assert label.startswith(f"{trial.scale}-")
    assert label.endswith(f" #{trial.number}")
    assert label in hovers(draw(sweep))


def test_diverged_curves_are_dashed(sweep: ReportData) -> None:
    diverged = [trial for trial in sweep.trials if trial.state is TrialState.DIVERGED]
    labels = run_labels(sweep)
    dashed = " ".join(hovers(go.Figure(trace)) for trace in loss_curves(sweep).data if trace.line.dash == "dash")
    assert diverged
    drawn = [trial for trial in diverged if sweep.curves[trial.key]]
    assert drawn
    assert all(labels[trial.key] in dashed for trial in drawn)


def test_a_diverged_run_counts_once_in_a_cell(sweep: ReportData) -> None:
    for cell in cells(sweep):
        runs = [record.run_id for record in cell.records]
        assert len(runs) == len(set(runs))


def test_the_best_curve_of_each_scale_is_thick(sweep: ReportData) -> None:
    thick = [trace for trace in loss_curves(sweep).data if trace.line.width == 3 and trace.text]
    assert len(thick) == len(sweep.plan.scales)
    for trace, scale in zip(thick, sweep.plan.scales, strict=True):
        best = min(trial.loss for trial in sweep.trials if trial.scale == scale.name and trial.loss is not None)
        assert [y for y in trace.y if y is not None][-1] == pytest.approx(best)


def test_the_law_lies_inside_its_band(sweep: ReportData) -> None:
    traces = chinchilla_fit(sweep).data
    bands = [trace for trace in traces if trace.fill == "toself"]
    lines = [trace for trace in traces if trace.mode == "lines" and trace.fill is None]
    assert len(bands) == len(lines) == len(sweep.plan.scales)
    for area, line in zip(bands, lines, strict=True):
        high, low = np.array(area.y[: len(line.y)]), np.array(area.y[len(line.y) :])[::-1]
        assert (low <= high).all()
        assert np.mean((low <= line.y * 1.001) & (line.y <= high * 1.001)) > 0.9


def test_an_optimum_on_an_edge_is_an_open_arrow(sweep: ReportData) -> None:
    law = sweep.laws["hyperparameters"]
    rows = [dict(row) for row in law.tables["optima"]]
    rows[0] |= {"learning_rate": None, "learning_rate_low": None, "learning_rate_high": None}
    rows[0] |= {"learning_rate_edge": "high", "learning_rate_centre": 50.0}
    changed = replace(law, tables={**law.tables, "optima": rows})
    figure = hyperparameter_laws(replace(sweep, laws={**sweep.laws, "hyperparameters": changed}))
    arrows = [trace for trace in figure.data if "triangle-up-open" in (trace.marker.symbol or ())]
    assert len(arrows) == 1
    assert "at least" in arrows[0].text[0]
    highest = max(record.learning_rate for record in cells(sweep)[0].records)
    assert arrows[0].y[0] == pytest.approx(highest)


@pytest.mark.parametrize("draw", FIGURES)
def test_an_interval_of_beta2_that_rounds_to_one_is_drawn(draw: Draw, sweep: ReportData) -> None:
    law = sweep.laws["hyperparameters"]
    rows = [
        dict(row) | {"beta2": row["beta2"] or 0.99, "beta2_low": 0.9, "beta2_high": 1.0} for row in law.tables["optima"]
    ]
    changed = replace(law, tables={**law.tables, "optima": rows})
    assert f'id="{draw.__name__}"' in figure_html(draw, replace(sweep, laws={**sweep.laws, "hyperparameters": changed}))


def test_published_lines_stand_beside_the_laws(sweep: ReportData) -> None:
    names = [trace.name or "" for trace in optimal_size(sweep).data]
    assert {"Kaplan", "Hoffmann"} <= set(names)
    assert any(name.startswith("chinchilla") for name in names)


def test_the_backtest_shows_predicted_over_measured(sweep: ReportData) -> None:
    figure = backtest_errors(sweep)
    assert list(figure.data[0].x) == pytest.approx([1 / 1.05, 1 / 1.05])
