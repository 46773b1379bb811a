"""What several areas' tests share: one small trial, and one Ray session for the whole suite."""

from __future__ import annotations

import math
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.trial import Reason, Trial, TrialState
from search_spaces.axis import LogUniform, OneMinusLog, PowersOfTwo
from search_spaces.plan import Schedule, Search, plan_searches
from search_spaces.scale import ModelScale
from search_spaces.space import HyperParameters, SearchSpace
from trainers.api import TrialResult, TrialSpec

MakeSpec = Callable[..., TrialSpec]
MakeTrial = Callable[..., Trial]


@pytest.fixture(scope="session")
def make_spec() -> MakeSpec:
    """A trial of a tiny scale: 2**19 tokens, evaluated at 2**16, 2**18 and the end."""

    def make(key: str = "trial", learning_rate: float = 0.03, seed: int = 1, batch_size: int = 16) -> TrialSpec:
        scale = ModelScale(name="s1", depth=2, width=32, ffn_width=64, heads=2, vocab_size=256, sequence_length=128)
        settings = HyperParameters(learning_rate=learning_rate, batch_size=batch_size, beta2=0.98)
        evaluations = (2**16, 2**18, 2**19)
        return TrialSpec(key=key, scale=scale, tokens=2**19, eval_tokens=evaluations, settings=settings, seed=seed)

    return make


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Two CPUs and eight pretended GPUs. Pools that start while it is there join it."""
    import ray

    from orchestrator.engine.cluster import connect

    connect("local", cpus=2, gpus=8)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def small_search() -> Search:
    """Sixteen trials of a tiny scale over the three usual axes."""
    space = SearchSpace(
        learning_rate=LogUniform(1e-4, 3e-2), batch_size=PowersOfTwo(1, 64), beta2=OneMinusLog(0.9, 0.999)
    )
    scale = ModelScale(name="s1", depth=2, width=64, ffn_width=128, heads=2, vocab_size=256, sequence_length=128)
    (search,) = plan_searches(scale=scale, space=space, tokens_per_param=(20.0,), trials=16, schedule=Schedule.CONSTANT)
    return search


@pytest.fixture(scope="session")
def make_trial(small_search: Search) -> MakeTrial:
    """A trial of small_search in a state; a loss makes it completed, not-a-number diverged."""

    def make(
        number: int,
        settings: HyperParameters | None = None,
        reason: Reason = Reason.MODEL,
        loss: float | None = None,
        state: TrialState = TrialState.WAITING,
        **changes: object,
    ) -> Trial:
        trial = Trial(
            key=f"{number:016x}",
            number=number,
            scale=small_search.cell.scale.name,
            tokens=small_search.cell.tokens,
            settings=settings or small_search.space.centre,
            seed=0,
            reason=reason,
            proposed_at=1_000_000.0 + number,
            state=state,
            **changes,
        )
        if loss is None:
            return trial
        diverged = math.isnan(loss)
        return trial.moved(TrialState.RUNNING, attempt=1).moved(
            TrialState.DIVERGED if diverged else TrialState.COMPLETED,
            result=TrialResult(
                final_loss=None if diverged else loss,
                diverged=diverged,
                tokens=small_search.cell.tokens,
                seconds=10.0,
                tokens_per_second=1e5,
            ),
            ended_at=1_000_100.0 + number,
        )

    return make


@pytest.fixture(scope="session")
def _migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from orchestrator.tracking.store import connect, database, store_uri

    folder = tmp_path_factory.mktemp("mlflow")
    connect(store_uri(None, folder))
    with closing(sqlite3.connect(database(folder))) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return database(folder)


@pytest.fixture
def run_folder_with_store(_migrated_database: Path, tmp_path: Path) -> Path:
    """A run folder whose MLflow database was made before: making one takes seconds."""
    shutil.copy(_migrated_database, tmp_path / "mlflow.db")
    return tmp_path
