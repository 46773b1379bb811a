"""The figures of the batch-size laws, from planted loss curves."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.laws import critical_batch, trajectory
from orchestrator.laws.predict import Context
from orchestrator.laws.records import RunRecord
from orchestrator.report.data import ReportData
from orchestrator.report.figures import figure_html
from orchestrator.report.plots_batch import critical_batch_law, trajectories
from orchestrator.report.style import NothingToDraw, caption

KAPLAN = {"N_c": 6.5e13, "alpha_N": 0.077, "S_c": 2.1e3, "alpha_S": 0.76, "B_star": 2.1e8, "alpha_B": 0.21}


@pytest.fixture(scope="module")
def batch_sweep() -> ReportData:
    """Curves of seven sizes at four batch sizes, with both laws."""
    rng = np.random.default_rng(0)
    records = []
    for params in np.geomspace(1e6, 6e7, 7):
        for batch in 4.0 ** np.arange(7, 11):
            steps = np.geomspace(300, 2e4, 12)
            losses = trajectory.loss(KAPLAN, params, steps, batch) * np.exp(0.004 * rng.standard_normal())
            records += [
                RunRecord(
                    run_id=f"{params:g} {batch:g}", params=params, tokens=s * batch, batch_tokens=batch, loss=loss
                )
                for s, loss in zip(steps, losses, strict=True)
            ]
    laws = {law.NAME: law.fit(records, draws=60) for law in (critical_batch, trajectory)}
    return ReportData(title="batches", context=Context(), records=records, laws=laws)


def test_the_critical_batch_falls_with_the_loss_and_each_level_is_marked(batch_sweep: ReportData) -> None:
    figure = critical_batch_law(batch_sweep)
    law = next(trace for trace in figure.data if trace.name == "law")
    assert (np.diff(law.y) < 0).all()
    levels = batch_sweep.laws["critical-batch"].tables["levels"]
    marks = [trace for trace in figure.data if (trace.name or "").endswith("params")]
    assert sum(len(trace.x) for trace in marks) == len(levels)
    assert caption(figure).startswith(f"n = {len(levels)} loss levels of 7 sizes")


def test_measured_readings_lie_near_the_hyperbolas(batch_sweep: ReportData) -> None:
    figure = critical_batch_law(batch_sweep)
    lines = [trace for trace in figure.data if (trace.name or "").startswith("loss ")]
    marks = [trace for trace in figure.data if trace.xaxis == "x2" and trace.mode == "markers"]
    assert len(lines) == len(marks) > 2
    for line, mark in zip(lines, marks, strict=True):
        order = np.argsort(line.x)
        near = np.interp(np.log(mark.x), np.log(np.array(line.x)[order]), np.log(np.array(line.y)[order]))
        batches = np.log(np.array(mark.y) / np.array(mark.x))
        assert len(batches) >= 3
        assert np.abs(np.log(mark.y) - near).max() < 1.0


def test_each_shown_curve_is_measured_and_drawn_by_the_law(batch_sweep: ReportData) -> None:
    figure = trajectories(batch_sweep)
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    lines = [trace for trace in figure.data if trace.mode == "lines" and trace.fill is None]
    assert len(marks) == len(lines) == 6 * 4
    for mark, line in zip(marks, lines, strict=True):
        assert np.interp(np.log(mark.x), np.log(line.x), np.log(line.y)) == pytest.approx(np.log(mark.y), abs=0.02)
    assert "n = 28 tuned curves at 7 sizes, of which 24 are shown" in caption(figure)
    assert sum(bool(line.showlegend) for line in lines) == 4


@pytest.mark.parametrize("draw", [critical_batch_law, trajectories])
def test_without_the_law_a_sentence_stands_there(draw, batch_sweep: ReportData, empty: ReportData) -> None:
    assert f'id="{draw.__name__}"' in figure_html(draw, batch_sweep)
    with pytest.raises(NothingToDraw, match="it was not fitted"):
        draw(empty)
    assert 'class="absent"' in figure_html(draw, empty)
