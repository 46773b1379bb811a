"""Mirrors the searches into an Optuna database, for optuna-dashboard: nothing is ever read back from it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, create_trial

from orchestrator.courier import Courier, StoreUnreachable
from orchestrator.databases import check_database, connect_arguments, engine_of, parse
from orchestrator.trial import Trial, TrialState
from search_spaces.axis import Axis
from search_spaces.errors import InputError
from search_spaces.plan import Search, SweepPlan
from trainers.masking import masked

KEY = "studies.uri"
TRIAL_KEY = "trial_key"
_STATES = {
    TrialState.COMPLETED: optuna.trial.TrialState.COMPLETE,
    TrialState.DIVERGED: optuna.trial.TrialState.PRUNED,  # a result, but no loss; the attribute `state` tells it apart
    TrialState.FAILED: optuna.trial.TrialState.FAIL,
}


@dataclass(frozen=True, kw_only=True)
class EndedTrial:
    """A trial to which nothing more will happen."""

    trial: Trial
    search: Search
    calls: int = 1

    def followed_by(self, later: EndedTrial) -> EndedTrial:
        """The later one counts."""
        return EndedTrial(trial=later.trial, search=later.search, calls=self.calls + later.calls)


class StudyMirror:
    """Writes each ended trial once, as a trial of its search's study; see orchestrator.ports.Mirror.

    A study is named `SWEEP-ID SEARCH`, by the sweep's name and id. Trials are known by their key: what is
    there already is not written again, whoever wrote it and whatever was cut off.
    """

    def __init__(self, *, uri: str, plan: SweepPlan, sweep_id: str) -> None:
        self._uri = uri
        self._prefix = f"{plan.name}-{sweep_id}"
        self._courier = Courier(name="optuna-mirror", opened=self._open, excuse=self._excuse)

    @property
    def url(self) -> str:
        """The database without its password."""
        return masked(self._uri)

    @property
    def pending(self) -> int:
        """Ended trials not delivered yet."""
        return self._courier.pending

    def trial_changed(self, trial: Trial, search: Search) -> None:
        """Mirror the trial, if it has ended."""
        if trial.state.ended:
            self._courier.put(trial.key, EndedTrial(trial=trial, search=search))

    def close(self, timeout_s: float) -> bool:
        """Deliver what is left, for so long at most; whether all was delivered."""
        return self._courier.close(timeout_s)

    def _open(self) -> Studies:
        return Studies(self._uri, prefix=self._prefix)

    def _excuse(self, error: Exception) -> str:
        said = masked(" ".join(str(error).split())[:200]) or type(error).__name__
        return f"the Optuna database {self.url} has not got everything yet, and is tried again: {said}"


class Studies:
    """A sweep's studies in an open database. Raises StoreUnreachable for every outage."""

    def __init__(self, uri: str, *, prefix: str) -> None:
        self._prefix = prefix
        self._storage = open_storage(uri)
        self._studies: dict[str, optuna.Study] = {}

    def deliver(self, key: str, parcel: EndedTrial) -> None:
        """Write a trial, unless it is there."""
        study = self._study(parcel.search)
        with _alone(self._storage.engine, study.study_name):
            # Read again each time (finished trials come from a cache): the lock is what makes it true.
            keys = {each.user_attrs.get(TRIAL_KEY) for each in study.get_trials(deepcopy=False)}
            if key not in keys:
                study.add_trial(frozen_trial(parcel.trial, parcel.search))

    def leave(self) -> None:
        """Give the connections back."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _study(self, search: Search) -> optuna.Study:
        if search.name not in self._studies:
            name = f"{self._prefix} {search.name}"
            with _alone(self._storage.engine, name):
                study = optuna.create_study(storage=self._storage, study_name=name, load_if_exists=True)
            self._studies[search.name] = study
        return self._studies[search.name]


def open_storage(uri: str) -> RDBStorage:
    """The database, with its tables made where there are none.

    Raises InputError where it is another program's, and what SQLAlchemy raises where it does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Writes are seconds apart: a connection each leaves none behind after an outage.
    arguments = {"connect_args": connect_arguments(parse(uri, key=KEY)), "poolclass": sqlalchemy.NullPool}
    with _looking_at(uri) as engine, _alone(engine, "optuna schema"):
        storage = RDBStorage(uri, engine_kwargs=arguments)
    sqlalchemy.event.listen(storage.engine, "handle_error", _as_outage)
    return storage


def check(uri: str) -> None:
    """Raises InputError where the mirror can never work, StoreUnreachable where the database does not answer."""
    check_database(uri, key=KEY)
    with _looking_at(uri):
        pass


def try_out(uri: str, name: str) -> None:
    """Make and remove a study of that name, and the tables where there are none. Raises what SQLAlchemy raises."""
    storage = open_storage(uri)
    storage.delete_study(storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], name))
    storage.remove_session()
    storage.engine.dispose()


@contextmanager
def _looking_at(uri: str) -> Iterator[sqlalchemy.Engine]:
    """An engine for a moment. Raises InputError where the tables are another program's, such as MLflow's."""
    engine = engine_of(uri, key=KEY)
    try:
        tables = set(sqlalchemy.inspect(engine).get_table_names())
        if "alembic_version" in tables and "studies" not in tables:  # both number their schema there
            raise InputError(
                f"{KEY}: {masked(uri)} is another program's database ({', '.join(sorted(tables)[:3])}, ...); Optuna "
                "and MLflow cannot share one: give the studies a database of their own"
            )
        yield engine
    finally:
        engine.dispose()


def frozen_trial(trial: Trial, search: Search) -> FrozenTrial:
    """An ended trial as Optuna has it: raw settings as params, its loss as the value, the rest as attributes."""
    frozen = create_trial(
        state=_STATES[trial.state],
        value=trial.loss,
        params={name: getattr(trial.settings, name) for name in search.widest.axes()},
        distributions={name: _distribution(name, axis) for name, axis in search.widest.axes().items()},
        user_attrs={
            TRIAL_KEY: trial.key,
            "state": trial.state.value,
            "cause": trial.cause.value if trial.cause else "",
            "reason": trial.reason.value,
            "seed": trial.seed,
            "number": trial.number,
            "attempt": trial.attempt,
        },
    )
    frozen.datetime_start = _local(trial.started_at or trial.proposed_at)
    frozen.datetime_complete = _local(trial.ended_at or trial.started_at or trial.proposed_at)
    return frozen


def _distribution(name: str, axis: Axis) -> BaseDistribution:
    """On the scale that a dashboard should draw it; a fixed setting is a range of one value."""
    if name == "batch_size":
        return IntDistribution(int(axis.low), int(axis.high), log=True)
    return FloatDistribution(axis.low, axis.high, log=name == "learning_rate")


def _local(seconds: float) -> datetime.datetime:
    """Optuna's times are of the local clock, without a zone."""
    return datetime.datetime.fromtimestamp(seconds)


def _as_outage(context: sqlalchemy.ExceptionContext) -> None:
    """Whatever broke ends the delivery at once.

    Optuna would try a write again that may have arrived, and report an outage as an error of the program.
    """
    if context.is_disconnect or isinstance(context.sqlalchemy_exception, sqlalchemy.exc.OperationalError):
        raise StoreUnreachable(str(context.original_exception)) from context.original_exception


@contextmanager
def _alone(engine: sqlalchemy.Engine, what: str) -> Iterator[None]:
    """No other process does this with this database meanwhile. SQLite has one writer: the run folder's driver."""
    if engine.dialect.name != "postgresql":
        yield
        return
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(hashtext(:what))"), {"what": what})
        yield
