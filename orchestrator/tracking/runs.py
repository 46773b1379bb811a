"""What a trial looks like as an MLflow run: names, params, tags, metrics. Pure, no mlflow."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.trial import Trial, TrialState
from search_spaces.plan import Schedule, Search
from trainers.api import CurvePoint

# MLflow 3.17 takes 1,000 metrics, params and tags together in a call, and 8,000 characters in a tag.
METRICS_PER_CALL = 900
TAG_LENGTH = 8000
# The tag that says which sweep an experiment and its parent run belong to.
SWEEP_TAG = "scalesweep.sweep_id"
TRIAL_TAG = "trial_key"
PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
SPEED = "tokens_per_second"
CURVE_METRICS = ("loss", "train_loss", "learning_rate", "grad_norm", SPEED)
STATUS = {
    TrialState.WAITING: "SCHEDULED",
    TrialState.RUNNING: "RUNNING",
    TrialState.COMPLETED: "FINISHED",
    TrialState.DIVERGED: "FINISHED",  # a result; the tag `state` tells it apart
    TrialState.FAILED: "FAILED",
}


@dataclass(frozen=True, kw_only=True)
class MetricPoint:
    """One value of a metric. `step` is tokens seen, `timestamp` milliseconds since 1970."""

    key: str
    value: float
    step: int
    timestamp: int


def run_name(trial: Trial, search: Search) -> str:
    """For people, such as `s3-20tpp lr1.2e-3 b32 beta2 0.98 #7`; never parsed."""
    settings = trial.settings
    mantissa, exponent = f"{settings.learning_rate:.1e}".split("e")
    rate = f"{mantissa}e{int(exponent)}"
    return f"{search.name} lr{rate} b{settings.batch_size} beta2 {settings.beta2:.4g} #{trial.number}"


def run_params(trial: Trial, search: Search, schedule: Schedule) -> dict[str, str]:
    """What decides the run, and its sizes. The same at every call for a trial."""
    scale, cell = search.cell.scale, search.cell
    shape = {key: value for key, value in dataclasses.asdict(scale).items() if key != "name"}
    values: dict[str, object] = {
        **dataclasses.asdict(trial.settings),
        "batch_tokens": trial.settings.batch_size * scale.sequence_length,
        "seed": trial.seed,
        "schedule": schedule.value,
        "tokens": cell.tokens,
        "tokens_per_param": f"{cell.tokens_per_param:.4g}",
        "params": scale.params,
        "non_embedding_params": scale.non_embedding_params,
        "total_params": scale.total_params,
        "flops_per_token": scale.flops_per_token(),
        **shape,
    }
    return {key: str(value) for key, value in values.items()}


def run_tags(trial: Trial, search: Search) -> dict[str, str]:
    """What to filter by."""
    return {
        TRIAL_TAG: trial.key,
        "scale": search.cell.scale.name,
        "cell": search.name,
        "state": trial.state.value,
        "cause": trial.cause.value if trial.cause else "",
        "reason": trial.reason.value,
        "attempt": str(trial.attempt),
        "worker": trial.worker,
        "message": trial.message[:TAG_LENGTH],
    }


def summary_metrics(trial: Trial) -> list[MetricPoint]:
    """What the table of runs shows of an ended trial."""
    if trial.result is None:
        return []
    # At step 0, where the UI draws a bar a run; at the horizon it would draw a curve of one point.
    values = {"final_loss": trial.loss, "mean_tokens_per_second": trial.result.tokens_per_second}
    time = milliseconds(trial.ended_at or trial.proposed_at)
    return [
        MetricPoint(key=key, value=value, step=0, timestamp=time) for key, value in values.items() if value is not None
    ]


def curve_metrics(points: Sequence[CurvePoint]) -> list[MetricPoint]:
    """The points as metrics. A point keeps its own time, so that a replay is the same row."""
    return [
        MetricPoint(key=key, value=value, step=point.tokens, timestamp=milliseconds(point.time))
        for point in points
        for key in CURVE_METRICS
        if (value := getattr(point, key)) is not None
    ]


def tag_key(name: str) -> str:
    """A name as MLflow takes it for a tag: what it refuses becomes an underscore."""
    return re.sub(r"[^\w\-./: ]", "_", name, flags=re.ASCII)


def milliseconds(seconds: float) -> int:
    """MLflow's unit of time."""
    return round(seconds * 1000)
