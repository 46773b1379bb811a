"""Shows a sweep in MLflow: one experiment, a parent run, a run for each trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator.courier import Courier
from orchestrator.tracking.access import excuse
from orchestrator.tracking.parcels import PARENT, RunParcel, Summary
from orchestrator.tracking.runs import MetricPoint, curve_metrics, milliseconds
from orchestrator.tracking.session import Session
from orchestrator.tracking.store import artifact_location, connect, is_server, store_uri
from orchestrator.trial import Trial
from search_spaces.plan import Search, SweepPlan
from trainers.api import CurvePoint
from trainers.masking import masked


class MlflowTracker:
    """The tracker over MLflow; see orchestrator.ports.Tracker.

    The sweep's thread only puts what happened into an outbox; a courier's thread delivers it. The store is
    opened at the first call. Of several changes that wait, a run gets the last. Runs that are unfinished
    when the tracker is closed become KILLED until they go on.
    """

    def __init__(self, *, uri: str | None, folder: Path, plan: SweepPlan, sweep_id: str) -> None:
        """`uri` None is a database in the run folder. Raises InputError for one that MLflow cannot have."""
        self._uri = store_uri(uri, folder)
        self._artifacts = artifact_location(self._uri, folder)
        self._plan = plan
        self._sweep_id = sweep_id
        self._trials: dict[str, tuple[Trial, Search]] = {}
        self._summarised = False
        self._page = ""  # written by the courier's thread alone
        self._courier = Courier(
            name="mlflow-uploader", opened=self._open, excuse=lambda error: excuse(error, self._uri)
        )

    @property
    def url(self) -> str:
        """The store's address without its password; on a server the experiment's page, once it is known."""
        return masked(self._uri).rstrip("/") + self._page

    @property
    def pending(self) -> int:
        """Calls not delivered yet."""
        return self._courier.pending

    def trial_changed(self, trial: Trial, search: Search) -> None:
        """Create or update the trial's run."""
        self._trials[trial.key] = (trial, search)
        self._courier.put(trial.key, RunParcel(changed=True))

    def points(self, key: str, points: Sequence[CurvePoint]) -> None:
        """Add points to the run of a trial. Raises KeyError where `trial_changed` never named it."""
        self._put_metrics(key, curve_metrics(points))

    def regrets(self, regrets: Mapping[str, float]) -> None:
        """Relative loss above the cell's fitted best, by trial key. Raises KeyError as `points` does."""
        now = milliseconds(time.time())
        for key, value in regrets.items():
            self._put_metrics(key, [MetricPoint(key="regret", value=value, step=0, timestamp=now)])

    def facts(self, tags: Mapping[str, str]) -> None:
        """Tags of the parent run."""
        self._courier.put(PARENT, RunParcel(tags=dict(tags)))

    def summarise(self, note: str, metrics: Mapping[str, float], artifacts: Sequence[Path]) -> None:
        """The parent run's note, numbers and files; says that the sweep has ended."""
        self._summarised = True
        summary = Summary(note=note, metrics=dict(metrics), artifacts=tuple(artifacts))
        self._courier.put(PARENT, RunParcel(summary=summary))

    def close(self, timeout_s: float) -> bool:
        """Deliver what is left, for so long at most; whether all was delivered."""
        return self._courier.close(timeout_s)

    def _put_metrics(self, key: str, metrics: Sequence[MetricPoint]) -> None:
        if key not in self._trials:
            raise KeyError(key)
        self._courier.put(key, RunParcel(metrics=tuple(metrics)))

    # The courier's thread

    def _open(self) -> _Delivery:
        session = Session(
            connect(self._uri),
            name=f"{self._plan.name} {self._sweep_id}",
            sweep_id=self._sweep_id,
            schedule=self._plan.schedule,
            artifacts=self._artifacts,
        )
        self._page = f"/#/experiments/{session.experiment_id}" if is_server(self._uri) else ""
        return _Delivery(session, self._trials, summarised=lambda: self._summarised)


class _Delivery:
    """An open session, with what its tracker knows by now."""

    def __init__(
        self, session: Session, trials: Mapping[str, tuple[Trial, Search]], *, summarised: Callable[[], bool]
    ) -> None:
        self._session = session
        self._trials = trials
        self._summarised = summarised

    def deliver(self, key: str, parcel: RunParcel) -> None:
        """Write what one run has not got yet."""
        if parcel.summary is not None:
            self._session.write_summary(parcel.summary)
        if key == PARENT:
            self._session.write_facts(parcel.tags)
            return
        trial, search = self._trials[key]
        if parcel.changed:
            self._session.write_trial(trial, search, parcel.metrics)
        else:
            self._session.write_metrics(trial, search, parcel.metrics)

    def leave(self) -> None:
        """No run is left as running."""
        unfinished = [trial for trial, _ in self._trials.values() if not trial.state.ended]
        self._session.leave(unfinished, done=self._summarised())
