"""Loss curves of planted parameters as fixtures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from planted_batches import KAPLAN, make_curves, solved_loss

from orchestrator.laws.records import RunRecord


@pytest.fixture(scope="session")
def kaplan() -> dict[str, float]:
    return KAPLAN


@pytest.fixture(scope="session")
def curves() -> Callable[..., list[RunRecord]]:
    return make_curves


@pytest.fixture(scope="session")
def truth() -> Callable[..., np.ndarray]:
    return solved_loss
