"""Any MLflow experiment, ours or anybody's, as run records."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.laws.records import CANONICAL_COLUMNS, RunRecord
from orchestrator.tracking.runs import TRIAL_TAG
from orchestrator.tracking.store import before_import, connect, existing_store
from search_spaces.errors import InputError, MissingColumnError
from trainers.masking import masked

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# Columns of experiments that scalesweep wrote. `step` is the step of the loss, which is tokens there.
OURS = {
    "run_id": f"tags.{TRIAL_TAG}",
    "tokens": "step",
    "loss": "metrics.loss",
    "status": "tags.state",
} | {
    name: f"params.{name}"
    for name in ("params", "non_embedding_params", "learning_rate", "batch_tokens", "beta2", "seed")
}
_KINDS = ("metrics", "params", "tags")
_EXAMPLES = {"loss": "metrics.NAME", "tokens": "metrics.NAME or --column tokens=step"}
_TEXT_COLUMNS = ("run_id", "schedule", "group", "status")
_STATUS = {"FINISHED": "completed", "completed": "completed", "diverged": "diverged"}


def read_experiment(uri: str, experiment: str, columns: Mapping[str, str]) -> list[RunRecord]:
    """A record for every point of every run's loss curve, read in full.

    `columns` says where a canonical column is: `metrics.NAME`, `params.NAME`, `tags.NAME`, or `step`,
    the step that the loss was logged at; a bare NAME is looked for in all three. What it leaves out is
    found under its canonical name, or where scalesweep puts it. A metric beside the loss counts with its
    last value up to the loss's step. Where tokens are neither a metric nor the step, the last point of
    the loss is the run's one record. `flops` that are not a metric are those of the whole run, of which
    a point gets its part by its tokens.

    Raises InputError for an unknown experiment or a store that cannot be read, and MissingColumnError for
    a column that no run has.
    """
    _check_columns(columns)
    address = existing_store(uri)
    before_import()
    from mlflow.exceptions import MlflowException

    try:
        return _read(connect(address), experiment, columns)
    except MlflowException as error:
        raise InputError(f"MLflow at {masked(address)} cannot be read: {error.message}") from error


def _read(client: MlflowClient, experiment: str, columns: Mapping[str, str]) -> list[RunRecord]:
    runs = list(_runs(client, _experiment_id(client, experiment)))
    ours = any(TRIAL_TAG in run.data.tags for run in runs)
    found = _sources(runs, (OURS if ours else {}) | dict(columns), experiment)
    records = [record for run in runs for record in _records(client, run, found)]
    if not records:
        raise MissingColumnError(f"experiment {experiment!r}: no run has both tokens and loss")
    return records


def _check_columns(columns: Mapping[str, str]) -> None:
    for canonical, source in columns.items():
        if canonical not in CANONICAL_COLUMNS:
            known = ", ".join(CANONICAL_COLUMNS)
            raise InputError(f"--column {canonical}={source}: no canonical column {canonical!r}; known are {known}")
    loss = columns.get("loss", "metrics.")
    if loss == "step" or loss.startswith(("params.", "tags.")):
        raise InputError(f"--column loss={loss}: the loss must be a metric, such as metrics.val_loss")


def _experiment_id(client: MlflowClient, name: str) -> str:
    from mlflow.entities import ViewType

    experiments = list(_pages(lambda token: client.search_experiments(view_type=ViewType.ALL, page_token=token)))
    for experiment in experiments:
        if name == experiment.name and experiment.lifecycle_stage == "active":
            return str(experiment.experiment_id)
    if any(name == experiment.name for experiment in experiments):
        raise InputError(f"experiment {name!r} is deleted; restore it in the MLflow UI, or name another")
    known = ", ".join(repr(each.name) for each in experiments if each.lifecycle_stage == "active") or "none at all"
    raise InputError(f"there is no experiment {name!r}; the store has {known}")


def _runs(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    return _pages(lambda token: client.search_runs([experiment_id], max_results=1000, page_token=token))


def _pages(fetch: Callable[[str | None], Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = fetch(token)
        yield from page
        token = page.token
        if not token:
            return


def _sources(runs: Sequence[Run], columns: Mapping[str, str], experiment: str) -> dict[str, str]:
    """Where each column is: as named, else by its own name. Raises MissingColumnError where no run has it."""
    there = {kind: {name for run in runs for name in getattr(run.data, kind)} for kind in _KINDS}
    found: dict[str, str] = {}
    for canonical in CANONICAL_COLUMNS:
        kinds = ("metrics",) if canonical == "loss" else _KINDS
        source = _place(columns.get(canonical, canonical), kinds, there)
        if source is not None:
            found[canonical] = source
        elif canonical in columns or canonical in {"loss", "tokens"}:
            raise MissingColumnError(
                f"experiment {experiment!r}: no run has {columns.get(canonical, canonical)} (for {canonical}); "
                f"name it by --column {canonical}={_EXAMPLES.get(canonical, 'params.NAME')}. "
                + "; ".join(f"{kind} there are: {_listed(there[kind])}" for kind in kinds)
            )
    return found


def _place(source: str, kinds: Sequence[str], there: Mapping[str, set[str]]) -> str | None:
    """`metrics.NAME` or the like, from that or a bare name; None where no run has it."""
    if source == "step":
        return source
    kind, _, name = source.partition(".")
    if kind in kinds and name in there[kind]:
        return source
    return next((f"{kind}.{source}" for kind in kinds if source in there[kind]), None)


def _listed(names: set[str]) -> str:
    shown = sorted(name for name in names if not name.startswith("mlflow."))
    return ", ".join(shown[:30]) + (", ..." if len(shown) > 30 else "") if shown else "none"


def _records(client: MlflowClient, run: Run, sources: Mapping[str, str]) -> list[RunRecord]:
    curve = _series(client, run, sources["loss"])
    if not sources["tokens"].startswith(("metrics.", "step")):
        curve = curve[-1:]
    fixed = {column: _fixed(run, source, column) for column, source in sources.items()}
    moving = {
        column: _series(client, run, source)
        for column, source in sources.items()
        if source.startswith("metrics.") and column != "loss"
    }
    status = _STATUS.get(fixed.pop("status", None) or run.info.status, "failed")
    named = {"run_id": fixed.pop("run_id", None) or run.info.run_id, "status": status}
    records: list[RunRecord] = []
    for step, loss in curve:
        at_step = {column: float(step) for column, source in sources.items() if source == "step"}
        values = fixed | {column: _value_at(series, step) for column, series in moving.items()} | at_step
        if values.get("tokens") is not None:
            records.append(RunRecord(**_typed(named | values | {"loss": loss})))
    if sources.get("flops", "").startswith("metrics."):
        return records
    return _share_flops(records)


def _series(client: MlflowClient, run: Run, source: str) -> list[tuple[int, float]]:
    """(step, value), by rising step; of values at one step the latest."""
    name = source.removeprefix("metrics.")
    if name not in run.data.metrics:
        return []
    history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda each: (each.step, each.timestamp))
    return list({each.step: (each.step, each.value) for each in history}.values())


def _value_at(series: Sequence[tuple[int, float]], step: int) -> float | None:
    before = bisect.bisect_right(series, step, key=lambda each: each[0])
    return series[before - 1][1] if before else None


def _fixed(run: Run, source: str, column: str) -> Any:  # noqa: ANN401  as the column has it
    kind, _, name = source.partition(".")
    if kind not in {"params", "tags"}:
        return None
    text = getattr(run.data, kind).get(name)
    if text is None or column in _TEXT_COLUMNS:
        return text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"run {run.info.run_name!r}: {source} is {text!r}; {column} must be a number") from None


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    seed = values.get("seed")
    return values | ({"seed": int(seed)} if seed is not None and math.isfinite(seed) else {"seed": None})


def _share_flops(records: list[RunRecord]) -> list[RunRecord]:
    last = records[-1].tokens if records else None
    if not last:
        return records
    return [
        replace(record, flops=record.flops * record.tokens / last)
        if record.flops is not None and record.tokens is not None
        else record
        for record in records
    ]
