"""Faults of the servers: MLflow and Postgres stopped for a while, for ever, or killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random

from ordeal import Finding, ordeals
from stage import Stage

_MLFLOW_S = 60.0  # as the issue has it, like the next one
_POSTGRES_S = 30.0
_SYNC_S = 300.0


def mlflow_stopped(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """The MLflow server stopped for 60 s."""
    for ordeal in ordeals(stage, "mlflow", chance, times, each=1):
        with ordeal.driving() as driver:
            for _ in ordeal.strikes(driver):
                ordeal.hit(f"MLflow stopped for {_MLFLOW_S:.0f} s", stage.mlflow.stop)
                time.sleep(_MLFLOW_S)
                stage.mlflow.start()
            ordeal.await_end(driver)
        yield from ordeal.findings()


def mlflow_gone(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """The MLflow server stopped for good; `scalesweep sync` uploads later."""
    for ordeal in ordeals(stage, "gone", chance, times, each=1):
        with ordeal.driving() as driver:
            for _ in ordeal.strikes(driver):
                ordeal.hit("MLflow stopped for good", stage.mlflow.stop)
            ordeal.await_end(driver)
        stage.mlflow.start()
        stage.scalesweep("sync", str(ordeal.run_dir), timeout_s=_SYNC_S)
        yield from ordeal.findings()


def postgres_stopped(stage: Stage, times: int, chance: Random) -> Iterator[Finding]:
    """Postgres, behind MLflow and the studies, stopped for 30 s, and killed and started again, in turn."""
    for ordeal in ordeals(stage, "postgres", chance, 2 * times, each=2):
        with ordeal.driving() as driver:
            for _ in ordeal.strikes(driver):
                if len(ordeal.hits) % 2 == 0:
                    ordeal.hit(f"Postgres stopped for {_POSTGRES_S:.0f} s", stage.postgres.stop)
                    time.sleep(_POSTGRES_S)
                else:
                    ordeal.hit("Postgres killed", stage.postgres.kill)
                stage.postgres.start()
            ordeal.await_end(driver)
        yield from ordeal.findings()
