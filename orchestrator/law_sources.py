"""Where runs to fit come from: a run folder, an MLflow experiment, or anybody's table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.laws.predict import Context
from orchestrator.laws.records import CANONICAL_COLUMNS, RunRecord
from orchestrator.laws.replicates import seed_noise
from orchestrator.laws.result import FittedLaw
from orchestrator.laws.selection import group_cells, select
from orchestrator.runfolder import software_version
from orchestrator.tables.counts import complete
from orchestrator.tables.reader import BatchUnit, ParamsCount, TableOptions, read_table
from orchestrator.tables.thinning import kept_records, thinning_note
from orchestrator.where import check_names, parse_where
from search_spaces.errors import InputError, MissingColumnError
from search_spaces.nearest import nearest

MLFLOW = "mlflow:"
# What 6 N D counts, by what N counts.
_FLOPS_COUNTS = {
    ParamsCount.STANDARD: "standard",
    ParamsCount.NON_EMBEDDING: "kaplan",
    ParamsCount.TOTAL: "6 * total_params * tokens",
}


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Records to fit, what their laws will hold for, and what a person should know about the reading.

    `curves` are the points of the whole curves, where the records have the ends of cells alone.
    """

    records: tuple[RunRecord, ...]
    context: Context
    curves: tuple[RunRecord, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Readers:
    """What reads the sources that other packages own: a run folder, and an experiment with named columns."""

    run_folder: Callable[[Path], Runs]
    experiment: Callable[[str, Mapping[str, str]], Sequence[RunRecord]]


def load(source: str, options: TableOptions, readers: Readers) -> Runs:
    """The runs of a source, narrowed as the options say. Raises InputError for whatever is wrong with it."""
    if source.startswith(MLFLOW):
        return _experiment(source.removeprefix(MLFLOW), options, readers)
    if Path(source).is_dir():
        return _run_folder(Path(source), options, readers)
    table = read_table(Path(source), options)
    return Runs(records=table.records, context=describe(table.records, options, table.params_count), notes=table.notes)


def describe(records: Sequence[RunRecord], options: TableOptions, params_count: ParamsCount) -> Context:
    """What is known of the context of runs that are not ours."""
    schedules = {record.schedule for record in records}
    return Context(
        params_count=params_count,
        flops_count=_FLOPS_COUNTS[params_count],
        sequence_length=options.sequence_length,
        schedule=schedules.pop() if len(schedules) == 1 else None,
        tokens_per_param=_ratios(records),
        noise_sd=_noise(records),
        version=software_version(),
    )


def with_noise(context: Context, laws: Mapping[str, FittedLaw]) -> Context:
    """The context with a noise: without seed replicates, the runs' scatter about the fitted surface.

    That scatter has the surface's misfit in it too, so a prediction for one run is rather too wide.
    """
    hyperparameters = laws.get("hyperparameters")
    rows = hyperparameters.tables.get("optima", ()) if hyperparameters else ()
    if context.noise_sd is not None or not rows:
        return context
    return replace(context, noise_sd=rows[0]["noise"])


def groups(runs: Runs, options: TableOptions) -> dict[str | None, Runs]:
    """The runs of each group, in the order of the groups' names; under None where no grouping is asked for."""
    if not options.group:
        return {None: runs}
    names = sorted({record.group for record in runs.records if record.group is not None})
    if not names:
        raise InputError(f"--group {options.group}: no run has a value there; choose another column")
    parts = {name: tuple(record for record in runs.records if record.group == name) for name in names}
    return {name: _of_group(runs, name, part) for name, part in parts.items()}


def _of_group(runs: Runs, name: str, records: tuple[RunRecord, ...]) -> Runs:
    noise = _noise(records) or runs.context.noise_sd
    context = replace(runs.context, tokens_per_param=_ratios(records), noise_sd=noise)
    curves = None if runs.curves is None else tuple(point for point in runs.curves if point.group == name)
    return replace(runs, records=records, context=context, curves=curves)


def _ratios(records: Sequence[RunRecord]) -> tuple[float, float] | None:
    """The range of tokens_per_param at the ends of the runs."""
    longest: dict[str, float] = {}
    for record in records:
        if record.params and record.tokens:
            longest[record.run_id] = max(longest.get(record.run_id, 0.0), record.tokens / record.params)
    return (min(longest.values()), max(longest.values())) if longest else None


def _noise(records: Sequence[RunRecord]) -> float | None:
    try:
        return seed_noise(group_cells(select(records, ("params", "tokens", "loss", "learning_rate"), law="the noise")))
    except MissingColumnError:
        return None


def _experiment(name: str, options: TableOptions, readers: Readers) -> Runs:
    columns = dict(options.columns)
    if options.group and options.group not in CANONICAL_COLUMNS:
        columns["group"] = options.group
    records = readers.experiment(name, columns)
    if options.batch_unit is BatchUnit.SEQUENCES:
        records = [_in_tokens(record, options.sequence_length or 1) for record in records]
    in_experiment = replace(options, group="group") if "group" in columns else options
    narrowed = _narrow(records, in_experiment)
    thinned = kept_records(narrowed)
    completed = complete(thinned)
    notes = (*thinning_note(len(thinned), len(narrowed), "points"), *completed.notes)
    count = options.params_count or ParamsCount.STANDARD
    return Runs(records=completed.records, context=describe(completed.records, options, count), notes=notes)


def _in_tokens(record: RunRecord, sequence_length: int) -> RunRecord:
    return replace(record, batch_tokens=record.batch_tokens and record.batch_tokens * sequence_length)


def _run_folder(path: Path, options: TableOptions, readers: Readers) -> Runs:
    given = {
        "--column": options.columns,
        "--batch-unit": options.batch_unit,
        "--params-count": options.params_count,
        "--seq-len": options.sequence_length,
    }
    for option, value in given.items():
        if value:
            raise InputError(f"{option} is for tables; the run folder {path} knows its own columns and units")
    runs = readers.run_folder(path)
    records = tuple(_narrow(runs.records, options))
    kept = {record.run_id for record in records}
    mine = [point for point in runs.curves or () if point.run_id in kept]
    return replace(runs, records=records, curves=tuple(_narrow(mine, replace(options, where=None))))


def _narrow(records: Sequence[RunRecord], options: TableOptions) -> Sequence[RunRecord]:
    """The records that --where keeps, each with the group that --group names."""
    kept = _kept(records, options.where) if options.where else records
    if options.group is None or options.group == "group":
        return kept
    if options.group not in CANONICAL_COLUMNS:
        known = ", ".join(CANONICAL_COLUMNS)
        raise InputError(f"--group {options.group}{nearest(options.group, CANONICAL_COLUMNS)}; the columns are {known}")
    return [replace(record, group=_text(getattr(record, options.group))) for record in kept]


def _kept(records: Sequence[RunRecord], text: str) -> Sequence[RunRecord]:
    where = parse_where(text)
    check_names(where, CANONICAL_COLUMNS)
    kept = [record for record in records if where.test({name: getattr(record, name) for name in where.names})]
    if not kept:
        raise InputError(f"--where {text!r} leaves none of {len(records)} points; choose more of them")
    return kept


def _text(value: object) -> str | None:
    return None if value is None else str(value)
