"""Which points of a curve an MLflow run has already."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from orchestrator.tracking.runs import CURVE_METRICS, SPEED, MetricPoint

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Key, step and value; no value where it tells nothing.
Identity = tuple[str, int, float | None]


class _Measured(Protocol):
    """A metric's value, ours or MLflow's."""

    @property
    def key(self) -> str: ...

    @property
    def value(self) -> float: ...

    @property
    def step(self) -> int: ...


def stored_points(client: MlflowClient, run_id: str) -> frozenset[Identity]:
    """What the run has of its curve; a call a metric. Raises what MLflow raises."""
    return frozenset(_identity(point) for key in CURVE_METRICS for point in client.get_metric_history(run_id, key))


def missing(metrics: Iterable[MetricPoint], stored: frozenset[Identity]) -> Sequence[MetricPoint]:
    """Those that are not stored. Times do not count: MLflow would store a step trained again a second time."""
    return [point for point in metrics if _identity(point) not in stored]


def _identity(point: _Measured) -> Identity:
    # A stretch that is trained again has the same losses and another speed: the first one stands.
    telling = point.key != SPEED and not math.isnan(point.value)
    return point.key, point.step, point.value if telling else None
