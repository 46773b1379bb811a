"""The figures of Gadre's, Guo's and Muennighoff's laws: drawn from planted runs, a sentence where absent."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws import compute_only, data_constrained, downstream, overtraining
from orchestrator.laws.predict import Context
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Status
from orchestrator.laws.tuned import without_repeats
from orchestrator.report.data import ReportData
from orchestrator.report.figures import Draw, figure_html
from orchestrator.report.plots_data import compute_only_test, repeated_data
from orchestrator.report.plots_gadre import downstream_error, overtraining_fit
from orchestrator.report.style import NothingToDraw, caption

LAWS = {
    overtraining_fit: overtraining.NAME,
    downstream_error: downstream.NAME,
    repeated_data: data_constrained.NAME,
    compute_only_test: compute_only.NAME,
}
LOSSES = {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.353, "beta": 0.353, "R_D": 15.4, "R_N": 5.3}
ERRORS = {"k": 2.2, "gamma": 0.71, "epsilon": 0.86}


@pytest.fixture(scope="module")
def planted() -> ReportData:
    """Runs of five sizes: at three splits on new tokens, and on 1e8 unique tokens for up to 30 epochs."""
    rng = np.random.default_rng(0)
    records = []
    for params in np.geomspace(1e7, 1e9, 5):
        runs = [(ratio * params, None) for ratio in (10, 40, 160)]
        runs += [(epochs * 1e8, 1e8) for epochs in (1, 3, 10, 30)]
        for tokens, unique in runs:
            exact = float(data_constrained.loss(LOSSES, params, tokens, unique or tokens))
            loss = exact * float(np.exp(0.003 * rng.standard_normal()))
            records.append(
                RunRecord(
                    run_id=f"run {len(records)}",
                    params=float(params),
                    tokens=float(tokens),
                    unique_tokens=unique,
                    loss=loss,
                    error=float(downstream.error(ERRORS, loss)),
                )
            )
    laws = [law.fit(records, draws=40) for law in (overtraining, downstream, data_constrained, compute_only)]
    return ReportData(title="planted", context=Context(), records=records, laws={law.name: law for law in laws})


@pytest.mark.parametrize("draw", LAWS)
def test_the_law_is_drawn_with_its_n_and_its_points_fit_the_axes(draw: Draw, planted: ReportData) -> None:
    figure = draw(planted)
    assert caption(figure).startswith("n = ")
    assert f'id="{draw.__name__}"' in figure_html(draw, planted)
    for trace in figure.data:
        assert all(math.isfinite(value) and value > 0 for value in trace.x)


@pytest.mark.parametrize("draw", LAWS)
def test_without_the_law_a_sentence_says_why(draw: Draw, planted: ReportData) -> None:
    poor = replace(planted, laws={}, not_fitted={LAWS[draw]: "it needs more runs"})
    with pytest.raises(NothingToDraw, match="it needs more runs"):
        draw(poor)


@pytest.mark.parametrize("draw", LAWS)
def test_a_weak_law_says_so_under_its_figure(draw: Draw, planted: ReportData) -> None:
    name = LAWS[draw]
    weak = replace(planted.laws[name], status=Status.WEAK, reason="too few runs")
    assert "Weak: too few runs." in caption(draw(replace(planted, laws={**planted.laws, name: weak})))


def test_every_split_has_its_points_and_a_line(planted: ReportData) -> None:
    figure = overtraining_fit(planted)
    marked = sum(len(trace.x) for trace in figure.data if trace.mode == "markers")
    assert marked == len(without_repeats(planted.records)[0])


def test_hovering_names_the_run_and_its_error(planted: ReportData) -> None:
    texts = [text for trace in downstream_error(planted).data if trace.mode == "markers" for text in trace.text]
    assert len(texts) == len(planted.records)
    assert "<b>run 0</b>" in texts[0]


def test_repetition_is_drawn_over_epochs(planted: ReportData) -> None:
    figure = repeated_data(planted)
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert len(marks) == 5
    assert all(max(trace.x) == pytest.approx(30.0) for trace in marks)
    lines = [trace for trace in figure.data if trace.mode == "lines" and trace.fill is None]
    assert all((np.diff(line.y) < 0).all() for line in lines)


def test_the_tests_numbers_stand_under_the_figure(planted: ReportData) -> None:
    words = caption(compute_only_test(planted))
    assert "adding ln(N/D) and its square" in words
    assert "p = " in words
