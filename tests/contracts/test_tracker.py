"""The Tracker contract, on a hand-written fake and on MLflow over SQLite."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from orchestrator.ports import Tracker
from orchestrator.tracking.runs import curve_metrics, run_name, run_params, run_tags
from orchestrator.tracking.uploader import MlflowTracker
from orchestrator.trial import Reason, Trial, TrialState
from search_spaces.plan import Schedule, Search, SweepPlan
from trainers.api import Cause, CurvePoint

MakeTrial = Callable[..., Trial]
PATIENCE_S = 60.0


@dataclass
class Shown:
    """What a person sees of one run."""

    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curve: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


class FakeTracker:
    """Keeps everything in a dictionary that outlives it, as a server would."""

    def __init__(self, server: dict[str, Shown]) -> None:
        self._server = server

    @property
    def url(self) -> str:
        return "memory:"

    def trial_changed(self, trial: Trial, search: Search) -> None:
        shown = self._server.setdefault(trial.key, Shown())
        shown.name, shown.params, shown.tags = (
            run_name(trial, search),
            run_params(trial, search, Schedule.CONSTANT),
            run_tags(trial, search),
        )
        if trial.loss is not None:
            shown.metrics["final_loss"] = trial.loss

    def points(self, key: str, points: Sequence[CurvePoint]) -> None:
        for metric in curve_metrics(points):
            curve = self._server[key].curve.setdefault(metric.key, [])
            if (metric.step, metric.value) not in curve:
                curve.append((metric.step, metric.value))

    def regrets(self, regrets: Mapping[str, float]) -> None:
        for key, value in regrets.items():
            self._server[key].metrics["regret"] = value

    def facts(self, tags: Mapping[str, str]) -> None:
        parent = self._server.setdefault("", Shown())
        parent.tags = {**parent.tags, **tags}

    def summarise(self, note: str, metrics: Mapping[str, float], artifacts: Sequence[Path]) -> None:
        self.facts({"mlflow.note.content": note})
        self._server[""].metrics.update(metrics)

    @property
    def pending(self) -> int:
        return 0

    def close(self, timeout_s: float) -> bool:
        return True


class Place(Protocol):
    """A tracking server: trackers are started on it, and people look at it."""

    def start(self) -> Tracker: ...

    def shown(self) -> dict[str, Shown]:
        """Runs by trial key, the sweep's own under the empty key. Raises AssertionError for duplicates."""


class FakePlace:
    def __init__(self) -> None:
        self._server: dict[str, Shown] = {}

    def start(self) -> Tracker:
        return FakeTracker(self._server)

    def shown(self) -> dict[str, Shown]:
        return self._server


class MlflowPlace:
    def __init__(self, folder: Path, search: Search) -> None:
        self._folder = folder
        self._plan = SweepPlan(name="tiny", searches=(search,), schedule=Schedule.CONSTANT)

    def start(self) -> Tracker:
        return MlflowTracker(uri=None, folder=self._folder, plan=self._plan, sweep_id="abc")

    def shown(self) -> dict[str, Shown]:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self._folder / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("tiny abc")
        runs = client.search_runs([experiment.experiment_id])
        keys = [run.data.tags.get("trial_key", "") for run in runs]
        assert len(set(keys)) == len(keys), "two runs of one trial"
        return {key: self._one(client, run) for key, run in zip(keys, runs, strict=True)}

    def _one(self, client: Any, run: Any) -> Shown:
        curves = {
            key: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        }
        return Shown(run.info.run_name, run.data.tags, run.data.params, dict(run.data.metrics), curves)


@pytest.fixture(params=["fake", "mlflow"])
def place(request, small_search) -> Place:
    if request.param == "fake":
        return FakePlace()
    return MlflowPlace(request.getfixturevalue("run_folder_with_store"), small_search)


def curve(count: int) -> list[CurvePoint]:
    return [
        CurvePoint(tokens=1000 * k, loss=5 - 0.1 * k, time=1_000_000.0 + k, learning_rate=1e-3)
        for k in range(1, count + 1)
    ]


class TestTracker:
    """What the sweep relies on."""

    def test_shows_a_trial_from_its_start_to_its_end(self, place, small_search, make_trial):
        tracker = place.start()
        tracker.trial_changed(make_trial(0, reason=Reason.START_UP, state=TrialState.RUNNING, attempt=1), small_search)
        tracker.points(f"{0:016x}", curve(4))
        tracker.points(f"{0:016x}", curve(8)[4:])
        tracker.trial_changed(make_trial(0, reason=Reason.START_UP, loss=4.2), small_search)
        tracker.regrets({f"{0:016x}": 0.05})
        assert tracker.close(PATIENCE_S)
        assert tracker.pending == 0
        run = place.shown()[f"{0:016x}"]
        assert run.name == "s1-20tpp lr1.7e-3 b8 beta2 0.99 #0"
        expected = {"scale": "s1", "cell": "s1-20tpp", "state": "completed", "reason": "start-up", "attempt": "1"}
        assert expected.items() <= run.tags.items()
        assert run.params["batch_tokens"] == "1024"
        assert run.params["params"] == str(small_search.cell.scale.params)
        assert run.metrics["final_loss"] == 4.2
        assert run.metrics["regret"] == 0.05
        assert run.curve["loss"] == [(point.tokens, point.loss) for point in curve(8)]

    def test_a_replay_changes_nothing(self, place, small_search, make_trial):
        for _ in range(2):
            tracker = place.start()
            for number in range(3):
                trial = make_trial(number, loss=4.2)
                tracker.trial_changed(trial, small_search)
                tracker.points(trial.key, curve(5))
            assert tracker.close(PATIENCE_S)
            shown = {key: run for key, run in place.shown().items() if key}
            assert sorted(shown) == [f"{number:016x}" for number in range(3)]
            assert all(len(run.curve["loss"]) == 5 for run in shown.values())

    def test_says_why_a_trial_failed(self, place, small_search, make_trial):
        tracker = place.start()
        failed = make_trial(0, state=TrialState.FAILED, cause=Cause.OUT_OF_DEVICE_MEMORY, message="no room")
        tracker.trial_changed(failed, small_search)
        assert tracker.close(PATIENCE_S)
        assert {"state": "failed", "cause": "out of device memory"}.items() <= place.shown()[failed.key].tags.items()

    def test_shows_the_summary(self, place, small_search, make_trial):
        tracker = place.start()
        tracker.trial_changed(make_trial(0, loss=4.2), small_search)
        tracker.summarise("# The sweep", {"trials": 1.0}, [])
        assert tracker.close(PATIENCE_S)
        parent = place.shown()[""]
        assert parent.tags["mlflow.note.content"] == "# The sweep"
        assert parent.metrics["trials"] == 1.0

    def test_tags_the_sweep_as_it_goes_and_again_after_a_restart(self, place, small_search, make_trial):
        for tags in (
            {"over s1": "settled", "ended": "no"},
            {"ended": "the budget is spent " * 1000, "over s1-1e+03tpp": "x"},
        ):
            tracker = place.start()
            tracker.trial_changed(make_trial(0, loss=4.2), small_search)
            tracker.facts(tags)
            assert tracker.close(PATIENCE_S)
        tags = place.shown()[""].tags
        assert tags["over s1"] == "settled"
        assert tags["ended"].startswith("the budget is spent")
        assert len(place.shown()) == 2

    def test_calls_return_at_once(self, place, small_search, make_trial):
        tracker = place.start()
        began = time.monotonic()
        for number in range(20):
            tracker.trial_changed(make_trial(number), small_search)
            tracker.points(f"{number:016x}", curve(10))
        assert time.monotonic() - began < 2
        tracker.close(PATIENCE_S)
