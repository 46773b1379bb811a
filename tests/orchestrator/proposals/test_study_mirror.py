"""The Optuna mirror: each ended trial once, whatever the database does meanwhile."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from servers import Postgres, has_postgres, postgres

from orchestrator.courier import StoreUnreachable
from orchestrator.proposals.mirror import StudyMirror, check, frozen_trial
from orchestrator.trial import Trial, TrialState
from search_spaces.axis import Fixed
from search_spaces.errors import InputError
from search_spaces.plan import Schedule, Search, SweepPlan
from search_spaces.space import HyperParameters
from trainers.api import Cause

MakeTrial = Callable[..., Trial]
PATIENCE_S = 60.0
RIGHT = "right-one"


@pytest.fixture
def started(small_search: Search) -> Callable[[str], StudyMirror]:
    plan = SweepPlan(name="tiny", searches=(small_search,), schedule=Schedule.CONSTANT)
    return lambda uri: StudyMirror(uri=uri, plan=plan, sweep_id="abc")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    if not has_postgres():
        pytest.skip("Postgres (initdb) is not installed")
    with postgres(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'studies.db'}"
    server: Postgres = request.getfixturevalue("server")
    return server.create_database(f"studies{time.time_ns()}")


def study_of(uri: str) -> optuna.Study:
    storage = optuna.storages.RDBStorage(uri, engine_kwargs={"poolclass": sqlalchemy.NullPool})
    return optuna.load_study(storage=storage, study_name="tiny-abc s1-20tpp")


def keys_of(uri: str) -> list[str]:
    return [trial.user_attrs["trial_key"] for trial in study_of(uri).trials]


def mirror(started: Callable[[str], StudyMirror], uri: str, search: Search, *trials: Trial) -> None:
    writer = started(uri)
    for trial in trials:
        writer.trial_changed(trial, search)
    assert writer.close(PATIENCE_S)
    assert writer.pending == 0


def test_ended_trials_are_there_once_with_what_is_known_of_them(uri, started, small_search, make_trial) -> None:
    trials = [
        make_trial(0, loss=4.0),
        make_trial(1, loss=math.nan),
        make_trial(2, state=TrialState.FAILED, cause=Cause.BUG),
        make_trial(3, state=TrialState.RUNNING),
    ]
    for _ in range(2):  # the second time as after a restart
        mirror(started, uri, small_search, *trials)
    completed, diverged, failed = study_of(uri).trials
    settings = trials[0].settings
    assert completed.value == 4.0
    assert completed.params == {
        "learning_rate": settings.learning_rate,
        "batch_size": settings.batch_size,
        "beta2": settings.beta2,
    }
    expected = {"trial_key": trials[0].key, "state": "completed", "reason": "model", "seed": 0}
    assert expected.items() <= completed.user_attrs.items()
    assert (completed.state.name, diverged.state.name, failed.state.name) == ("COMPLETE", "PRUNED", "FAIL")
    assert diverged.user_attrs["state"] == "diverged"
    assert failed.user_attrs["cause"] == "bug"
    assert study_of(uri).best_trial.number == 0


def test_two_writers_at_the_same_time_write_each_trial_once(server, started, small_search, make_trial) -> None:
    uri = server.create_database("twowriters")
    trials = [make_trial(number, loss=4.0) for number in range(12)]
    writers = [
        threading.Thread(target=mirror, args=(started, uri, small_search, *order))
        for order in (trials, list(reversed(trials)))
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(PATIENCE_S)
    assert sorted(keys_of(uri)) == [trial.key for trial in trials]


def test_an_outage_in_the_middle_loses_and_doubles_nothing(server, started, small_search, make_trial, caplog):
    uri = server.create_database("outage")
    writer = started(uri)
    trials = [make_trial(number, loss=4.0) for number in range(40)]
    for trial in trials[:20]:
        writer.trial_changed(trial, small_search)
    began = time.monotonic()
    while writer.pending > 15 and time.monotonic() < began + PATIENCE_S:
        time.sleep(0.005)
    server.kill()
    for trial in trials[20:]:
        called = time.monotonic()
        writer.trial_changed(trial, small_search)
        assert time.monotonic() - called < 0.1
    time.sleep(1.0)
    assert writer.pending >= 20
    server.start()
    assert writer.close(PATIENCE_S)
    assert sorted(keys_of(uri)) == [trial.key for trial in trials]
    said = [record for record in caplog.records if "has not got everything yet" in record.message]
    assert len(said) == 1


def test_a_database_that_never_answers_harms_nothing(started, small_search, make_trial) -> None:
    writer = started("postgresql+psycopg://me@127.0.0.1:9/db")
    writer.trial_changed(make_trial(0, loss=4.0), small_search)
    began = time.monotonic()
    assert not writer.close(1.0)
    assert time.monotonic() - began < 5
    assert writer.pending == 1
    with pytest.raises(StoreUnreachable):
        check("postgresql+psycopg://me@127.0.0.1:9/db")


def test_mlflows_database_is_refused_and_left_as_it_is(run_folder_with_store: Path, started, small_search, make_trial):
    database = run_folder_with_store / "mlflow.db"
    before = database.read_bytes()
    with pytest.raises(InputError, match=r"is another program's database .*own"):
        check(f"sqlite:///{database}")
    writer = started(f"sqlite:///{database}")
    writer.trial_changed(make_trial(0, loss=4.0), small_search)
    assert not writer.close(1.0)
    assert database.read_bytes() == before


def test_a_password_that_is_wrong_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_postgres():
        pytest.skip("Postgres (initdb) is not installed")
    with postgres(tmp_path, password=RIGHT) as server:
        uri = server.create_database("guarded")
        for given in ("wrong-one", None):
            monkeypatch.delenv("PGPASSWORD", raising=False)
            if given:
                monkeypatch.setenv("PGPASSWORD", given)
            with pytest.raises(InputError, match=r"refuses us: .* PGPASSWORD") as caught:
                check(uri)
            assert "wrong-one" not in str(caught.value)
        monkeypatch.setenv("PGPASSWORD", RIGHT)
        check(uri)


def test_settings_outside_the_space_and_fixed_ones_have_a_place(small_search, make_trial) -> None:
    from dataclasses import replace

    search = replace(small_search, space=replace(small_search.space, beta2=Fixed(0.95)))
    beyond = HyperParameters(learning_rate=search.widest.learning_rate.high, batch_size=1, beta2=0.95)
    frozen = frozen_trial(make_trial(0, settings=beyond, loss=4.0), search)
    assert frozen.params == {"learning_rate": beyond.learning_rate, "batch_size": 1, "beta2": 0.95}
