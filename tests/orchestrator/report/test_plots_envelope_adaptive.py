"""The figures of the laws `envelope` and `adaptive`: drawn from a table of curves, a sentence without the law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws import adaptive, chinchilla, envelope
from orchestrator.laws.predict import Context
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Status
from orchestrator.report.data import ReportData
from orchestrator.report.figures import Draw, figure_html
from orchestrator.report.plots_adaptive import adaptive_schedule
from orchestrator.report.plots_envelope import training_envelope
from orchestrator.report.style import VERMILLION, NothingToDraw, caption

PLANTED = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
FIGURES: tuple[Draw, ...] = (training_envelope, adaptive_schedule)


@pytest.fixture(scope="module")
def curves() -> ReportData:
    """Curves of eight sizes with both laws."""
    rng = np.random.default_rng(0)
    records = [
        RunRecord(
            run_id=f"{params:.3g}",
            params=params,
            tokens=tokens,
            loss=float(chinchilla.loss(PLANTED, params, tokens) * np.exp(0.001 * rng.standard_normal())),
            schedule="constant",
        )
        for params in np.geomspace(2e6, 1e8, 8)
        for tokens in params * np.geomspace(1, 100, 12)
    ]
    laws = {module.NAME: module.fit(records, draws=60) for module in (envelope, adaptive)}
    return ReportData(title="curves.csv", context=Context(), records=records, laws=laws)


@pytest.mark.parametrize("draw", FIGURES)
def test_a_table_of_curves_is_drawn_with_its_n(draw: Draw, curves: ReportData) -> None:
    assert caption(draw(curves)).startswith("n = 8 runs")
    assert f'id="{draw.__name__}"' in figure_html(draw, curves)


@pytest.mark.parametrize("draw", FIGURES)
def test_drawn_numbers_fit_the_axes(draw: Draw, curves: ReportData) -> None:
    for trace in draw(curves).data:
        drawn = np.asarray(trace.x, dtype=float)
        assert np.isfinite(drawn).all()
        assert (drawn > 0).all()


@pytest.mark.parametrize("draw", FIGURES)
def test_without_the_law_the_sentence_says_why(draw: Draw, curves: ReportData) -> None:
    name = {training_envelope: "envelope", adaptive_schedule: "adaptive"}[draw]
    without = replace(curves, laws={}, not_fitted={name: "there are no curves"})
    with pytest.raises(NothingToDraw, match="there are no curves"):
        draw(without)


@pytest.mark.parametrize("draw", FIGURES)
def test_a_weak_law_is_drawn_with_its_reason(draw: Draw, curves: ReportData) -> None:
    weak = {name: replace(law, status=Status.WEAK, reason="too few sizes") for name, law in curves.laws.items()}
    assert "Weak: too few sizes." in caption(draw(replace(curves, laws=weak)))


def test_the_steps_of_the_envelope_are_marked_and_its_bias_is_said(curves: ReportData) -> None:
    figure = training_envelope(curves)
    marked = [trace for trace in figure.data if trace.line.color == VERMILLION]
    used = [row for row in curves.laws["envelope"].tables["steps"] if row["used"]]
    assert [list(trace.x) for trace in marked] == [[row["flops_from"], row["flops_to"]] for row in used]
    assert "of which the design alone makes" in caption(figure)


def test_an_envelope_of_a_table_without_curves_gets_a_sentence(curves: ReportData) -> None:
    with pytest.raises(NothingToDraw):
        training_envelope(replace(curves, records=()))


def test_the_path_lies_on_the_curve_of_the_shape_it_begins_with_and_ends_below_all(curves: ReportData) -> None:
    figure = adaptive_schedule(curves)
    path = next(trace for trace in figure.data if trace.name == "changing")
    law = curves.laws["adaptive"]
    first = law.tables["shapes"][0]
    assert path.y[0] == pytest.approx(adaptive.loss(first, path.x[0]), rel=1e-6)
    statics = [float(adaptive.loss(row, path.x[-1])) for row in law.tables["shapes"]]
    assert path.y[-1] <= min(statics) * (1 + 1e-6)


def test_each_switch_has_a_diamond(curves: ReportData) -> None:
    marks = next(trace for trace in adaptive_schedule(curves).data if trace.name == "switches")
    assert len(marks.x) == len(curves.laws["adaptive"].tables["switches"]) > 0
