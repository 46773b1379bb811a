"""Sweeps with a planted truth: the laws must find it, and their intervals must hold it."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from planted_settings import Truth, make_sweep

from orchestrator.laws.records import RunRecord

STEPLAW = Path(__file__).parents[4] / "shared" / "data" / "steplaw_dense.csv"


@pytest.fixture(scope="session")
def truth() -> type[Truth]:
    return Truth


@pytest.fixture(scope="session")
def sweep() -> Callable[..., list[RunRecord]]:
    return make_sweep


@pytest.fixture(scope="session")
def steplaw() -> list[RunRecord]:
    """Step Law's published grid of 17 cells."""
    if not STEPLAW.exists():
        pytest.skip(f"the published table is not here: {STEPLAW.name}")
    with STEPLAW.open() as table:
        return [
            RunRecord(
                run_id=f"{number:04d}",
                params=float(row["params"]),
                tokens=float(row["tokens"]),
                loss=float(row["loss_smooth"]),
                learning_rate=float(row["learning_rate"]),
                batch_tokens=float(row["batch_tokens"]),
            )
            for number, row in enumerate(csv.DictReader(table))
        ]
