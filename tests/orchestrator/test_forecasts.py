"""Held-out searches: predicted in writing before their first trial."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import tiny
from rig import Rig, centre

from orchestrator.agenda import EARLY_TRIALS
from orchestrator.forecasts import Forecast
from orchestrator.ledger import Ended, Predicted, Proposed, read
from orchestrator.sweep import Ending
from orchestrator.trial import Reason, Trial
from search_spaces.errors import FitError
from search_spaces.plan import Search
from search_spaces.space import HyperParameters


def test_a_held_out_search_waits_for_its_forecast(tmp_path: Path) -> None:
    asked: list[tuple[str, tuple[Trial, ...]]] = []

    def forecast(search: Search, trials: tuple[Trial, ...]) -> Forecast:
        asked.append((search.cell.scale.name, trials))
        return centre(search, trials)

    rig = Rig(tmp_path, forecast=forecast)
    rig.run()
    ((scale, known),) = asked
    assert scale == "s4"
    assert Counter(trial.scale for trial in known) == {"s1": 3, "s2": 3, "s3": 3}
    assert all(trial.state.ended and trial.reason is not Reason.REPLICATE for trial in known)
    events = read(tmp_path).events
    (written,) = [number for number, event in enumerate(events) if isinstance(event, Predicted)]
    first = next(n for n, event in enumerate(events) if isinstance(event, Proposed) and event.scale == "s4")
    assert written < first
    prediction = events[written]
    assert (prediction.scale, prediction.runs_used) == ("s4", 9)
    middle = rig.plan.searches[-1].space.centre
    mine = [trial for trial in rig.trials if trial.scale == "s4"]
    assert (mine[0].settings, mine[0].reason) == (middle, Reason.PREDICTED)
    assert HyperParameters(**prediction.prediction["settings"]) == middle
    assert [trial.reason for trial in mine[1:3]] == [Reason.SAMPLER] * 2


def test_laws_that_cannot_be_fitted_hold_nothing_up(tmp_path: Path) -> None:
    def cannot(search: Search, trials: tuple[Trial, ...]) -> Forecast:
        raise FitError("all optima lie on an edge")

    rig = Rig(tmp_path, forecast=cannot)
    assert rig.run() is Ending.DONE
    (written,) = rig.of(Predicted)
    assert written.prediction == {"failed": "all optima lie on an edge"}
    assert not any(trial.reason is Reason.PREDICTED for trial in rig.trials)
    assert len(rig.trials) == rig.plan.trials


def test_an_early_prediction_waits_for_some_trials_of_each_smaller_scale_and_not_for_the_last(tmp_path: Path) -> None:
    asked: list[tuple[Trial, ...]] = []

    def forecast(search: Search, trials: tuple[Trial, ...]) -> Forecast:
        asked.append(trials)
        return centre(search, trials)

    plan = tiny.sweep(sampler="law-guided", trials=9, replicates=1).plan()
    rig = Rig(tmp_path, plan=plan, forecast=forecast)
    assert rig.run() is Ending.DONE
    (known,) = asked
    counts = Counter(trial.scale for trial in known)
    assert set(counts) == {"s1", "s2", "s3"}
    assert EARLY_TRIALS <= counts["s3"] < 9
    assert all(trial.state.ended for trial in known)
    events = read(tmp_path).events
    (written,) = [number for number, event in enumerate(events) if isinstance(event, Predicted)]
    keys = {trial.key for trial in rig.trials if trial.scale == "s3"}
    last = max(n for n, event in enumerate(events) if isinstance(event, Ended) and event.key in keys)
    assert written < last
