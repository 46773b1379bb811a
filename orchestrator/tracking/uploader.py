"""Shows a sweep in MLflow: one experiment, a parent run, a run for each trial.

The sweep's thread only puts what happened into an outbox; one thread of ours delivers it, tries again
when the server does not answer, and finds what is there already when it starts anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator.tracking.outbox import PARENT, Outbox, Parcel, Summary
from orchestrator.tracking.runs import MetricPoint, curve_metrics, milliseconds
from orchestrator.tracking.session import Session
from orchestrator.tracking.store import artifact_location, connect, is_server, masked, store_uri
from orchestrator.trial import Trial
from search_spaces.plan import Search, SweepPlan
from trainers.api import CurvePoint

_log = logging.getLogger(__name__)

# How long a delivery waits for more to go with it, seconds. A guess: people do not look more often,
# and on a laptop each call takes its milliseconds from a trial.
_LINGER_S = 2.0
# Pauses after failures, seconds: the first, the longest, and the one once the tracker is closed. Guesses.
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_CLOSING_PAUSE_S = 0.5


class MlflowTracker:
    """The tracker over MLflow; see orchestrator.ports.Tracker.

    The store is opened at the first call, in the uploading thread. Of several changes that wait, a run
    gets the last. Runs that are unfinished when the tracker is closed become KILLED until they go on.
    """

    def __init__(self, *, uri: str | None, folder: Path, plan: SweepPlan, sweep_id: str) -> None:
        """`uri` None is a database in the run folder. Raises InputError for one that MLflow cannot have."""
        self._uri = store_uri(uri, folder)
        self._artifacts = artifact_location(self._uri, folder)
        self._name = f"{plan.name} {sweep_id}"
        self._sweep_id = sweep_id
        self._schedule = plan.schedule
        self._trials: dict[str, tuple[Trial, Search]] = {}
        self._summarised = False
        self._outbox = Outbox()
        self._session: Session | None = None  # written by the uploading thread alone
        self._deadline = float("inf")  # by time.monotonic
        self._thread = threading.Thread(target=self._upload, name="mlflow-uploader", daemon=True)

    @property
    def url(self) -> str:
        """The store's address without its password; on a server the experiment's page, once it is known."""
        session = self._session
        page = f"/#/experiments/{session.experiment_id}" if session and is_server(self._uri) else ""
        return masked(self._uri).rstrip("/") + page

    @property
    def pending(self) -> int:
        """Calls not delivered yet."""
        return self._outbox.pending

    def trial_changed(self, trial: Trial, search: Search) -> None:
        """Create or update the trial's run."""
        self._trials[trial.key] = (trial, search)
        self._put(trial.key, Parcel(changed=True))

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
        self._put(PARENT, Parcel(tags=dict(tags)))

    def summarise(self, note: str, metrics: Mapping[str, float], artifacts: Sequence[Path]) -> None:
        """The parent run's note, numbers and files; says that the sweep has ended."""
        self._summarised = True
        self._put(PARENT, Parcel(summary=Summary(note=note, metrics=dict(metrics), artifacts=tuple(artifacts))))

    def close(self, timeout_s: float) -> bool:
        """Deliver what is left, for so long at most; whether all was delivered."""
        self._deadline = time.monotonic() + timeout_s
        self._outbox.close()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return self.pending == 0

    def _put_metrics(self, key: str, metrics: Sequence[MetricPoint]) -> None:
        if key not in self._trials:
            raise KeyError(key)
        self._put(key, Parcel(metrics=tuple(metrics)))

    def _put(self, key: str, parcel: Parcel) -> None:
        self._outbox.put(key, parcel)
        if self._thread.ident is None:
            self._thread.start()

    # The uploading thread

    def _upload(self) -> None:
        pause = _FIRST_PAUSE_S
        while self._outbox.wait_for_parcel() and time.monotonic() < self._deadline:
            self._outbox.wait_for_close(_LINGER_S)
            if self._tried(self._deliver_all):
                pause = _FIRST_PAUSE_S
            else:
                self._rest(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
        self._tried(self._leave)

    def _tried(self, action: Callable[[], None]) -> bool:
        """Whether it went well. If not, the next attempt starts from what it then finds."""
        try:
            action()
        except Exception as error:  # noqa: BLE001  whatever the store does, training goes on
            _log.warning("MLflow at %s has not got everything yet: %s", masked(self._uri), error)
            self._session = None
            return False
        return True

    def _rest(self, pause_s: float) -> None:
        self._outbox.wait_for_close(pause_s)
        if self._deadline < float("inf"):
            time.sleep(_CLOSING_PAUSE_S)

    def _deliver_all(self) -> None:
        session = self._session = self._session or self._open()
        while (taken := self._outbox.take()) is not None:
            key, parcel = taken
            try:
                self._deliver(session, key, parcel)
            except Exception:
                self._outbox.put_back(key)
                raise
            self._outbox.delivered()

    def _open(self) -> Session:
        return Session(
            connect(self._uri),
            name=self._name,
            sweep_id=self._sweep_id,
            schedule=self._schedule,
            artifacts=self._artifacts,
        )

    def _deliver(self, session: Session, key: str, parcel: Parcel) -> None:
        if parcel.summary is not None:
            session.write_summary(parcel.summary)
        if key == PARENT:
            session.write_facts(parcel.tags)
            return
        trial, search = self._trials[key]
        if parcel.changed:
            session.write_trial(trial, search, parcel.metrics)
        else:
            session.write_metrics(trial, search, parcel.metrics)

    def _leave(self) -> None:
        if self._session is not None:
            unfinished = [trial for trial, _ in self._trials.values() if not trial.state.ended]
            self._session.leave(unfinished, done=self._summarised)
