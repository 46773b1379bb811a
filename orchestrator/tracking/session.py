"""An open connection to a sweep's experiment: which run is whose, and what goes into it."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.tracking.parcels import Summary
from orchestrator.tracking.runs import (
    METRICS_PER_CALL,
    NOTE_TAG,
    PARENT_TAG,
    STATUS,
    SWEEP_TAG,
    TAG_LENGTH,
    TRIAL_TAG,
    MetricPoint,
    milliseconds,
    run_name,
    run_params,
    run_tags,
    summary_metrics,
    tag_key,
)
from orchestrator.tracking.stored import Identity, missing, stored_points
from orchestrator.trial import Trial, TrialState
from search_spaces.plan import Schedule, Search

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_log = logging.getLogger(__name__)

# Makes the UI open on runs and curves; without it, on a page about traces of language-model applications.
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_ENDED = {status for state, status in STATUS.items() if state.ended}


class Session:
    """Finds what is there when it is opened, so that nothing is made twice; see tracking.uploader.

    One writer: nobody else may create runs of this sweep meanwhile. Every method may be repeated after
    an error, on a new session. Raises what MLflow raises.
    """

    def __init__(
        self, client: MlflowClient, *, name: str, sweep_id: str, schedule: Schedule, artifacts: str | None
    ) -> None:
        self._client = client
        self._schedule = schedule
        self.experiment_id = _experiment(client, name, sweep_id, artifacts)
        self._runs: dict[str, str] = {}
        self._parent = ""
        self._complete: set[str] = set()  # runs that have their params
        self._adopted: set[str] = set()  # trials whose runs were there before, and of these those that go on:
        self._going_on: set[str] = set()
        self._stored: dict[str, frozenset[Identity]] = {}  # what they had by then
        for run in _all_runs(client, self.experiment_id):
            self._adopt(run)
        if not self._parent:
            created = client.create_run(self.experiment_id, run_name=name, tags={SWEEP_TAG: sweep_id})
            self._parent = created.info.run_id
        client.update_run(self._parent, status="RUNNING")

    def write_trial(self, trial: Trial, search: Search, metrics: Sequence[MetricPoint]) -> None:
        """The trial's run as the trial now stands, and metrics; made if there is none.

        Values that are there already are not stored twice.
        """
        run_id = self._run_of(trial, search)
        params = {} if run_id in self._complete else run_params(trial, search, self._schedule)
        new = [*self._new(trial, run_id, metrics), *summary_metrics(trial)]
        self._log(run_id, new, params=params, tags=run_tags(trial, search))
        self._complete.add(run_id)
        if trial.state.ended:
            ended = milliseconds(trial.ended_at or time.time())
            self._client.set_terminated(run_id, STATUS[trial.state], end_time=ended)
        else:
            self._client.update_run(run_id, status=STATUS[trial.state])

    def write_metrics(self, trial: Trial, search: Search, metrics: Sequence[MetricPoint]) -> None:
        """Metrics alone, otherwise as `write_trial`."""
        run_id = self._run_of(trial, search)
        self._log(run_id, self._new(trial, run_id, metrics))

    def write_summary(self, summary: Summary) -> None:
        """The parent run's note, numbers and files. A file that is not there is left out."""
        now = milliseconds(time.time())
        values = [MetricPoint(key=key, value=value, step=0, timestamp=now) for key, value in summary.metrics.items()]
        self._log(self._parent, values, tags={NOTE_TAG: summary.note[:TAG_LENGTH]})
        for path in summary.artifacts:
            if path.exists():
                self._client.log_artifact(self._parent, str(path))
            else:
                _log.warning("%s is not there and was not uploaded", path)

    def write_facts(self, tags: Mapping[str, str]) -> None:
        """Tags of the parent run."""
        if tags:
            self._log(self._parent, [], tags={tag_key(key): value[:TAG_LENGTH] for key, value in tags.items()})

    def leave(self, unfinished: Sequence[Trial], *, done: bool) -> None:
        """No run is left as running: the trials' drivers end here, and the parent's."""
        for trial in unfinished:
            if trial.key in self._runs:
                self._log(self._runs[trial.key], [], tags={"state": TrialState.WAITING.value})
                self._client.set_terminated(self._runs[trial.key], "KILLED")
        self._client.set_terminated(self._parent, "FINISHED" if done else "KILLED")

    def _run_of(self, trial: Trial, search: Search) -> str:
        """The id of the trial's run; made if there is none."""
        if trial.key not in self._runs:
            run = self._client.create_run(
                self.experiment_id,
                start_time=milliseconds(trial.started_at or trial.proposed_at),
                tags=run_tags(trial, search) | {PARENT_TAG: self._parent},
                run_name=run_name(trial, search),
            )
            self._runs[trial.key] = run.info.run_id
        return self._runs[trial.key]

    def _new(self, trial: Trial, run_id: str, metrics: Sequence[MetricPoint]) -> Sequence[MetricPoint]:
        """What the run has not got.

        A head that lost its disk has lost the last points too, and perhaps a trial's end: they are trained
        again and come with other times. A trial that is over, here and in MLflow, has nothing new.
        """
        if trial.key in self._adopted and not trial.state.ended:
            self._going_on.add(trial.key)
        if trial.key not in self._going_on:
            return metrics
        if trial.key not in self._stored:
            self._stored[trial.key] = stored_points(self._client, run_id)
        return missing(metrics, self._stored[trial.key])

    def _adopt(self, run: Run) -> None:
        key = run.data.tags.get(TRIAL_TAG)
        if key is None and SWEEP_TAG not in run.data.tags:
            return
        if run.info.lifecycle_stage == "deleted":
            self._client.restore_run(run.info.run_id)
        if key is None:
            self._parent = run.info.run_id
        else:
            self._runs[key] = run.info.run_id
            self._adopted.add(key)
            if run.info.status not in _ENDED:
                self._going_on.add(key)

    def _log(
        self,
        run_id: str,
        metrics: Sequence[MetricPoint],
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        values = [Metric(m.key, m.value, m.timestamp, m.step) for m in metrics]
        self._client.log_batch(
            run_id,
            metrics=values[:METRICS_PER_CALL],
            params=[Param(key, value) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
        )
        for start in range(METRICS_PER_CALL, len(values), METRICS_PER_CALL):
            self._client.log_batch(run_id, metrics=values[start : start + METRICS_PER_CALL])


def _experiment(client: MlflowClient, name: str, sweep_id: str, artifacts: str | None) -> str:
    """The sweep's experiment, whatever it is called by now; restored if deleted, made if there is none.

    Somebody else's experiment of that name is left alone: ours then gets a number behind its name.
    """
    from mlflow.entities import ViewType

    found = client.search_experiments(view_type=ViewType.ALL, filter_string=f"tags.`{SWEEP_TAG}` = '{sweep_id}'")
    for experiment in found:
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)
    names = itertools.chain([name], (f"{name} ({number})" for number in itertools.count(2)))
    free = next(candidate for candidate in names if client.get_experiment_by_name(candidate) is None)
    tags = {SWEEP_TAG: sweep_id, **_KIND}
    return str(client.create_experiment(free, artifact_location=artifacts, tags=tags))


def _all_runs(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    from mlflow.entities import ViewType

    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], run_view_type=ViewType.ALL, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
