"""The path of each search: every measured trial once, in order, by reason; and why the search ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.report.backtests import backtest_section
from orchestrator.report.data import ReportData
from orchestrator.report.page import render
from orchestrator.report.plots_search import search_path
from orchestrator.report.searches import searches_section
from orchestrator.report.style import NothingToDraw, caption
from orchestrator.trial import Reason


def drawn(figure) -> list:
    """The traces with hover texts: two for each search."""
    return [trace for trace in figure.data if trace.mode == "markers" and trace.text and "trial " in trace.text[0]]


def test_every_measured_trial_is_drawn_twice_in_order(sweep: ReportData) -> None:
    figure = search_path(sweep)
    measured = [trial for trial in sweep.trials if trial.loss is not None]
    by_order, in_plane = drawn(figure)[::2], drawn(figure)[1::2]
    assert sum(len(trace.x) for trace in by_order) == sum(len(trace.x) for trace in in_plane) == len(measured)
    assert all(list(trace.x) == sorted(trace.x) for trace in by_order)
    assert sorted(rate for trace in in_plane for rate in trace.x) == sorted(t.settings.learning_rate for t in measured)
    assert f"n = {len(measured)} trials of 5 of 5 searches" in caption(figure)


def test_a_trial_without_a_loss_keeps_its_place_empty(sweep: ReportData) -> None:
    """The third trial of the first search failed."""
    first = drawn(search_path(sweep))[0]
    assert 3 not in first.x
    assert {1, 2, 4} <= set(first.x)


def test_the_regret_is_that_of_the_trials(sweep: ReportData) -> None:
    first = drawn(search_path(sweep))[0]
    losses = [trial.loss for trial in sweep.trials if trial.of(sweep.plan.searches[0]) and trial.loss is not None]
    best, worst = losses.index(min(losses)), losses.index(max(losses))
    assert first.y[best] == min(first.y)
    assert first.y[worst] == max(first.y)
    lowest = next(trace for trace in search_path(sweep).data if trace.mode == "lines")
    assert list(lowest.y) == sorted(lowest.y, reverse=True)


def test_reasons_are_told_apart_and_named(sweep: ReportData) -> None:
    trials = [
        replace(trial, reason=reason)
        for trial, reason in zip(sweep.trials, list(Reason) * len(sweep.trials), strict=False)
    ]
    figure = search_path(replace(sweep, trials=trials))
    named = {trace.name: (trace.marker.color, trace.marker.symbol) for trace in figure.data if trace.name}
    assert set(named) == {reason.value for reason in Reason}
    assert len(set(named.values())) == len(Reason)
    labels = " ".join(text for trace in drawn(figure) for text in trace.text)
    assert all(reason.value in labels for reason in Reason)


def test_a_table_of_runs_has_no_path(minimal: ReportData, sweep: ReportData) -> None:
    with pytest.raises(NothingToDraw, match="came from a table"):
        search_path(minimal)
    assert searches_section(minimal) == ""
    assert searches_section(replace(sweep, trials=())) == ""


def test_the_page_says_why_each_search_and_the_sweep_ended(sweep: ReportData) -> None:
    first, second = sweep.plan.searches[:2]
    data = replace(sweep, ended="the budget is spent", ends={first.name: "settled: <enough> is known"})
    page = render(data)
    section = page.partition('<section id="search">')[2].partition("</section>")[0]
    assert "What ended the sweep: the budget is spent." in section
    assert "settled: &lt;enough&gt; is known" in section
    assert "the sweep ended first" in section
    assert second.name in section
    assert "The sweep is not over yet." in searches_section(sweep)
    assert "it goes on" in searches_section(sweep)


def test_every_backtest_is_shown_with_its_outcome(sweep: ReportData) -> None:
    (one,) = sweep.backtests
    other = replace(one, cell="s4-of-another", regret=0.034, runs_used=60)
    waiting = replace(one, cell="s5-to-come", regret=None, measured={})
    section = backtest_section(replace(sweep, backtests=(one, other, waiting)))
    for words in (one.cell, "s4-of-another", "s5-to-come", "3.4 %", "60 runs", "Nothing was measured"):
        assert words in section
