"""What a running sweep tells its log and its tracker of itself: ends of searches, predictions, fallbacks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
from fakes import FakePool, FakeProposer, FakeTracker

from orchestrator import launch
from orchestrator.config import SweepFile
from orchestrator.forecasts import Forecast
from orchestrator.ledger import Ledger
from orchestrator.ports import Resources
from orchestrator.progress import Quiet
from orchestrator.proposals.proposer import OptunaProposer
from orchestrator.steering import Steering
from orchestrator.sweep import Ports, Sweep
from orchestrator.tracking.store import connect, store_uri
from orchestrator.trial import Proposal, Reason
from search_spaces.plan import Search
from search_spaces.space import HyperParameters

GUIDED = {"sampler": "law-guided", "trials": 8, "replicates": 1, "target": {"params": 1e5}}


def middle(search, trials) -> Forecast:
    return Forecast(settings=search.space.centre, runs_used=len(trials), prediction={"loss": {"value": 3.0}})


def run(folder: Path, sweep: SweepFile, proposer) -> FakeTracker:
    """A sweep on fakes; what its tracker was told."""
    plan, tracker = sweep.plan(), FakeTracker()
    ports = Ports(proposer=proposer, pool=FakePool(), tracker=tracker, forecast=middle)
    with Ledger.open(folder) as ledger:
        Sweep(
            plan=plan,
            folder=folder,
            ledger=ledger,
            ports=ports,
            trainer_version="fake",
            resources=lambda _: Resources(),
            steering=Steering(plan=plan, goal=sweep.goal()),
        ).run()
    return tracker


@dataclass
class Contradicted(FakeProposer):
    """Falls back in every search but the first."""

    def ask(self, search: Search, number: int, neighbour_best: HyperParameters | None) -> Proposal:
        asked = super().ask(search, number, neighbour_best)
        reason = Reason.SAMPLER if neighbour_best is None else Reason.FALLBACK
        return Proposal(settings=asked.settings, reason=reason)


def test_a_fallback_is_said_once_a_search_and_tagged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = tiny.sweep(backtest=False, replicates=1)
    with caplog.at_level(logging.WARNING, logger="orchestrator.sweep"):
        tracker = run(tmp_path, sweep, Contradicted())
    names = [search.name for search in sweep.plan().searches[1:]]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == names
    assert all("contradicts the laws" in record.getMessage() for record in caplog.records)
    assert {key for key in tracker.tags if key.startswith("fallback ")} == {f"fallback {name}" for name in names}


def test_the_tracker_is_told_why_searches_and_the_sweep_ended(tmp_path: Path) -> None:
    sweep = tiny.sweep(**GUIDED, budget={"flops": tiny.sweep(**GUIDED).plan().flops() / 20})
    tracker = run(tmp_path, sweep, OptunaProposer(sampler="law-guided", seed=0))
    assert tracker.tags["ended"].startswith("the budget is spent")
    sweep = tiny.sweep(trials=3)
    tracker = run(tmp_path / "plain", sweep, FakeProposer())
    last = sweep.plan().searches[-1].name
    assert tracker.tags["ended"] == "all trials were made"
    assert tracker.tags[f"predicted {last}"] == "from 9 runs: loss 3"
    assert {tracker.tags[f"over {search.name}"] for search in sweep.plan().searches} == {
        "all of its trials were proposed"
    }


def test_mlflow_and_the_words_have_them(run_folder_with_store: Path) -> None:
    sweep = tiny.sweep(scales=1, **GUIDED)
    folder, said = run_folder_with_store, []

    class Listening(Quiet):
        def say(self, text: str) -> None:
            said.append(text)

    assert launch.run(sweep, folder, Listening()) == 0
    client = connect(store_uri(None, folder))
    runs = [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id])]
    (parent,) = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    name = sweep.plan().searches[0].name
    assert parent.data.tags[f"over {name}"]
    assert parent.data.tags["ended"]
    assert 0 < parent.data.metrics["target.expected_regret"] < 10
    assert f"Ended: {parent.data.tags['ended']}" in "\n".join(said)
    assert parent.data.tags["ended"] in parent.data.tags["mlflow.note.content"]
    reasons = {each.data.tags["reason"] for each in runs if each is not parent}
    assert {Reason.START_UP.value, Reason.MODEL.value} <= reasons
    page = (folder / "report.html").read_text()
    assert "The path of each search" in page
    assert parent.data.tags["ended"] in page
