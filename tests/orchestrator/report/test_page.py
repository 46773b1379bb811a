"""The page: whole, self-contained, escaped, and honest about what is weak or absent."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from orchestrator.laws.predict import Context
from orchestrator.laws.records import RunRecord
from orchestrator.laws.registry import NAMES
from orchestrator.laws.result import Exclusion, Status
from orchestrator.report.data import ReportData
from orchestrator.report.law_cards import TELLS
from orchestrator.report.page import render

NASTY = '</script><img src=x onerror=alert(1)>&"'
MOST_BYTES = 8e6


class Elements(HTMLParser):
    """The tags of a page with their attributes, and its text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._code = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._code = tag in {"script", "style"}

    def handle_endtag(self, tag):
        self._code = False

    def handle_data(self, data):
        if not self._code:
            self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(sweep: ReportData) -> str:
    return render(sweep)


@pytest.fixture(scope="module")
def elements(page: str) -> Elements:
    return Elements(page)


def test_nothing_is_loaded_from_elsewhere(elements: Elements) -> None:
    loading = {"src", "href", "action", "srcset", "data", "poster"}
    targets = [value for _, attributes in elements.tags for name, value in attributes.items() if name in loading]
    assert targets
    assert all(target and target.startswith("#") for target in targets)
    assert not elements.of("link")


def test_the_browser_is_told_to_load_nothing(elements: Elements) -> None:
    policies = [meta["content"] for meta in elements.of("meta") if meta.get("http-equiv")]
    assert len(policies) == 1
    assert "default-src 'none'" in (policies[0] or "")
    assert "http" not in (policies[0] or "")


def test_plotly_is_inlined_once_and_the_page_stays_small(page: str) -> None:
    assert page.count("plotly.js v") == 1
    assert len(page.encode()) < MOST_BYTES


def test_every_link_leads_to_a_section(elements: Elements) -> None:
    anchors = {attributes["id"] for _, attributes in elements.tags if "id" in attributes}
    assert {(link["href"] or "").removeprefix("#") for link in elements.of("a")} <= anchors


def test_every_figure_has_a_caption_with_its_n(page: str, elements: Elements) -> None:
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert len(captions) == len(elements.of("figure")) > 5
    assert all("n = " in caption for caption in captions)


def test_the_words_say_what_was_swept(sweep: ReportData, elements: Elements) -> None:
    assert f"{len(sweep.trials)}trials" in elements.text
    for law in sweep.laws:
        assert law in elements.text


def test_a_weak_law_says_so_and_why(sweep: ReportData) -> None:
    weak = replace(sweep.laws["chinchilla"], status=Status.WEAK, reason="only a test of ours")
    text = Elements(render(replace(sweep, laws={**sweep.laws, "chinchilla": weak}))).text
    assert "This law is weak: only a test of ours." in text


def test_a_law_that_was_not_fitted_says_why(sweep: ReportData) -> None:
    laws = {name: law for name, law in sweep.laws.items() if name != "frontier"}
    text = Elements(render(replace(sweep, laws=laws, not_fitted={"frontier": "no compute at all"}))).text
    assert text.count("no compute at all") == 1
    assert "frontier: no compute at all" in text


def test_absent_laws_leave_no_empty_figures(minimal: ReportData) -> None:
    page = render(minimal)
    absent = set(minimal.not_fitted) - set(minimal.laws)
    assert {"critical-batch", "trajectory", "downstream", "data-constrained"} <= absent
    for section in ("losses", "compute", "batch", "data"):
        assert 'class="absent"' not in page.partition(f'<section id="{section}">')[2].partition("</section>")[0]
    assert '<section id="batch">' not in page
    assert '<section id="losses">' in page


def test_every_law_has_a_card_that_says_what_it_tells(sweep: ReportData, elements: Elements) -> None:
    assert set(TELLS) == set(NAMES)
    for name, law in sweep.laws.items():
        assert f"{TELLS[name]} {name} {law.status.value}" in elements.text


def test_figures_of_whole_curves_say_how_these_were_measured(sweep: ReportData, elements: Elements) -> None:
    assert sweep.points is not None
    note = "Points before the end of a cell are measured on a part of the held-out set."
    drawn = {"envelope", "adaptive", "critical-batch", "trajectory"} & set(sweep.laws)
    assert drawn
    assert elements.text.count(note) == len(drawn)
    assert note not in render(replace(sweep, points=None))


def test_excluded_runs_stand_in_a_table(sweep: ReportData) -> None:
    excluded = (*sweep.laws["isoflop"].runs_excluded, Exclusion(run="theirs-7", reason="its loss is a word"))
    law = replace(sweep.laws["isoflop"], runs_excluded=excluded)
    text = Elements(render(replace(sweep, laws={**sweep.laws, "isoflop": law}))).text
    assert "theirs-7its loss is a wordisoflop" in text


def test_failures_appear_with_their_cause(elements: Elements) -> None:
    assert "tried to allocate 2 GiB" in elements.text
    assert "out of device memory 2" in elements.text


def test_the_backtest_is_held_against_its_measurement(elements: Elements) -> None:
    assert "1.2 % above the cell's fitted best" in elements.text


def test_words_of_users_are_escaped(sweep: ReportData) -> None:
    trials = [replace(trial, message=NASTY) for trial in sweep.trials]
    context = replace(sweep.context, corpus=NASTY)
    nasty = replace(sweep, title=NASTY, context=context, trials=trials, not_fitted={"joint": NASTY})
    page = render(nasty)
    assert NASTY not in page
    assert not Elements(page).of("img")


def test_names_of_foreign_runs_are_escaped() -> None:
    records = [
        RunRecord(
            run_id=f"{NASTY}{number}", params=1e6, tokens=2e7, loss=3.0 + 0.01 * number,
            learning_rate=1e-3 * (number + 1), batch_tokens=1024.0 * 2**number,
        )
        for number in range(4)
    ]  # fmt: skip
    data = ReportData(title="t", context=Context(), records=records, laws={})
    page = render(data)
    assert not Elements(page).of("img")
    assert "<img" not in page.split("<main>")[1]


def test_a_foreign_table_makes_a_page(minimal: ReportData) -> None:
    text = Elements(render(minimal)).text
    assert "theirs 3" in text
    assert "Models of 1M to 32M params" in text


def test_an_empty_sweep_makes_a_page_that_says_so(empty: ReportData) -> None:
    text = Elements(render(empty)).text
    assert "No law was fitted" in text or "Not fitted: chinchilla" in text
    assert "No loss curves" in text
