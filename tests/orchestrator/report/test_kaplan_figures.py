"""Kaplan's laws are drawn with their points, or a sentence says why not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws import kaplan_c, kaplan_d, kaplan_n, kaplan_nd
from orchestrator.laws.predict import Context
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Status
from orchestrator.report.data import ReportData
from orchestrator.report.figures import Draw, figure_html
from orchestrator.report.plots_kaplan import kaplan_laws, kaplan_nd_fit
from orchestrator.report.style import NothingToDraw, caption

FIGURES: tuple[Draw, ...] = (kaplan_laws, kaplan_nd_fit)
PLANTED = {"alpha_N": 0.076, "alpha_D": 0.103, "N_c": 6.4e13, "D_c": 1.8e13}


@pytest.fixture(scope="module")
def grid() -> ReportData:
    rng = np.random.default_rng(0)
    records = [
        RunRecord(
            run_id=f"{params:.3g} {tokens:.3g}",
            params=params,
            tokens=tokens,
            loss=float(kaplan_nd.loss(PLANTED, params, tokens) * np.exp(0.003 * rng.standard_normal())),
        )
        for params in np.geomspace(1e6, 1e9, 7)
        for tokens in np.geomspace(1e8, 1e11, 7)
    ]
    laws = {module.NAME: module.fit(records, draws=50) for module in (kaplan_n, kaplan_d, kaplan_c, kaplan_nd)}
    return ReportData(title="grid", context=Context(), records=records, laws=laws)


@pytest.mark.parametrize("draw", FIGURES)
def test_the_laws_are_drawn_with_their_n(draw: Draw, grid: ReportData) -> None:
    assert caption(draw(grid)).startswith("n = ")
    assert f'id="{draw.__name__}"' in figure_html(draw, grid)


def test_each_power_law_has_its_panel_points_and_band(grid: ReportData) -> None:
    figure = kaplan_laws(grid)
    assert [note.text for note in figure.layout.annotations] == ["kaplan-n", "kaplan-d", "kaplan-c"]
    assert len(figure.data) == 3 * 3
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert [len(trace.x) for trace in marks] == [
        len(grid.laws[law].tables[table])
        for law, table in (("kaplan-n", "sizes"), ("kaplan-d", "token_counts"), ("kaplan-c", "frontier"))
    ]


def test_a_weak_law_says_why_under_the_figure(grid: ReportData) -> None:
    weak = replace(grid.laws["kaplan-n"], status=Status.WEAK, reason="not converged")
    said = caption(kaplan_laws(replace(grid, laws={**grid.laws, "kaplan-n": weak})))
    assert "kaplan-n is weak: not converged." in said


def test_panels_without_a_law_are_left_out(grid: ReportData) -> None:
    figure = kaplan_laws(replace(grid, laws={"kaplan-d": grid.laws["kaplan-d"]}))
    assert [note.text for note in figure.layout.annotations] == ["kaplan-d"]


def test_the_surface_is_drawn_size_by_size_with_small_residuals(grid: ReportData) -> None:
    figure = kaplan_nd_fit(grid)
    residuals = np.concatenate([trace.y for trace in figure.data if trace.mode == "markers" and trace.xaxis == "x2"])
    assert len(residuals) == len(grid.records)
    assert np.sqrt((residuals**2).mean()) == pytest.approx(0.003, rel=0.3)


@pytest.mark.parametrize("draw", FIGURES)
def test_without_laws_a_sentence_stands_there(draw: Draw, grid: ReportData) -> None:
    bare = replace(grid, laws={}, not_fitted={"kaplan-n": "too few sizes", "kaplan-nd": "too few sizes"})
    with pytest.raises(NothingToDraw, match="too few sizes"):
        draw(bare)
    assert 'class="absent"' in figure_html(draw, bare)
