"""Anybody's table of runs, CSV or Parquet, as run records. Columns, units and counts are named once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.laws.records import CANONICAL_COLUMNS, RunRecord
from orchestrator.tables.columns import TableFile, load_columns, open_table
from orchestrator.tables.counts import complete
from orchestrator.tables.thinning import kept_points, thinning_note
from orchestrator.where import Value, parse_where
from search_spaces.errors import InputError
from search_spaces.nearest import nearest

# What a table may hold beside what a record does: a count of params, and the batch in sequences.
COLUMNS = (*CANONICAL_COLUMNS, "total_params", "batch_size")
TEXT_COLUMNS = ("run_id", "schedule", "status", "group")


class BatchUnit(StrEnum):
    """What a table counts its batches in."""

    SEQUENCES = "sequences"
    TOKENS = "tokens"


class ParamsCount(StrEnum):
    """What N means in a table; ModelScale has the definitions."""

    STANDARD = "standard"
    NON_EMBEDDING = "non_embedding"
    TOTAL = "total"

    @property
    def column(self) -> str:
        """The canonical column that has this count."""
        return "params" if self is ParamsCount.STANDARD else f"{self.value}_params"


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How a table is to be read. `columns` maps a canonical column to the table's own name for it.

    Without `params_count`, N is the column `params`, or the one other count that the table has. A batch
    is in tokens where its column is `batch_tokens` and in sequences where it is `batch_size`, unless
    `batch_unit` says otherwise. `sequence_length` is in tokens.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    batch_unit: BatchUnit | None = None
    sequence_length: int | None = None
    params_count: ParamsCount | None = None
    where: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        for canonical, theirs in self.columns.items():
            if canonical not in COLUMNS:
                raise InputError(
                    f"--column {canonical}={theirs}: no canonical column is named {canonical!r}"
                    f"{nearest(canonical, COLUMNS)}; they are {', '.join(COLUMNS)}"
                )
        if self.sequence_length is not None and self.sequence_length < 1:
            raise InputError(f"--seq-len is {self.sequence_length}; give the tokens of one sequence, such as 2048")
        in_sequences = self.batch_unit is BatchUnit.SEQUENCES or (
            self.batch_unit is None and "batch_size" in self.columns
        )
        if in_sequences and self.sequence_length is None:
            raise InputError("a batch in sequences needs --seq-len, the tokens of one sequence, such as 2048")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Records, what N means in them, and what a person should know about the reading."""

    records: tuple[RunRecord, ...]
    params_count: ParamsCount = ParamsCount.STANDARD
    notes: tuple[str, ...] = ()


def read_table(path: Path, options: TableOptions) -> Table:
    """Read a table: a row a run, or a row a point where `run_id` says of which run.

    Raises InputError with one message for whatever is wrong: the file, the name of a column, a value (by
    its row, 1 is the first below the header), the expression.
    """
    try:
        return _Reader(open_table(path), options).table()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


class _Reader:
    """One reading of one file: rows are left out first, values converted after."""

    def __init__(self, file: TableFile, options: TableOptions) -> None:
        self._options = options
        self._names = file.names
        self._sources = self._find_sources()
        self._where = parse_where(options.where) if options.where else None
        self._notes: list[str] = []
        self._columns = load_columns(file, self._wanted())

    def table(self) -> Table:
        """The records."""
        self._leave_out_rows()
        self._thin_curves()
        count = self._options.params_count or self._only_count()
        values = {name: self._canonical(name) for name in CANONICAL_COLUMNS}
        values["params"] = self._canonical(count.column if count.column in self._sources else "params")
        if count is ParamsCount.NON_EMBEDDING:
            values["non_embedding_params"] = values["params"]
        values["batch_tokens"] = self._batch_tokens()
        if self._options.group:
            values["group"] = self._columns.texts(self._options.group)
        completed = complete(self._distinct(values))
        return Table(records=completed.records, params_count=count, notes=(*self._notes, *completed.notes))

    def _find_sources(self) -> dict[str, str]:
        """Which of the file's columns each canonical one is."""
        for canonical, theirs in self._options.columns.items():
            self._require(theirs, f"--column {canonical}={theirs}")
        if self._options.group:
            self._require(self._options.group, f"--group {self._options.group}")
        found = {name: name for name in COLUMNS if name in self._names} | dict(self._options.columns)
        for name in set(CANONICAL_COLUMNS) - set(found):
            alike = [other for other in self._names if other.strip().casefold() == name and other not in found.values()]
            if alike:
                raise InputError(
                    f"its column {alike[0]!r} is nearly {name!r}; rename it, or give --column '{name}={alike[0]}'"
                )
        for name in found.values():
            if self._names.count(name) > 1:
                raise InputError(f"it has {self._names.count(name)} columns {name!r}; rename or drop all but one")
        if not found:
            raise InputError(
                f"none of its columns is canonical: it has {', '.join(self._names)}; "
                "name at least params, tokens and loss, such as --column tokens=THEIRS"
            )
        return found

    def _require(self, name: str, option: str) -> None:
        if name not in self._names:
            raise InputError(
                f"{option}: it has no column {name!r}{nearest(name, self._names)}; it has {', '.join(self._names)}"
            )

    def _wanted(self) -> list[str]:
        """The file's columns that are needed."""
        wanted = set(self._sources.values())
        if self._options.group:
            wanted.add(self._options.group)
        for name in self._where.names if self._where else ():
            column = self._sources.get(name, name)
            self._require(column, f"--where {self._options.where!r}")
            wanted.add(column)
        return [name for name in self._names if name in wanted]

    def _leave_out_rows(self) -> None:
        if self._where:
            names = {name: self._sources.get(name, name) for name in self._where.names}
            values = {name: self._columns.values(column) for name, column in names.items()}
            rows = (dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True))
            self._columns = self._columns.take([index for index, row in enumerate(rows) if self._where.test(row)])
        if self._options.group:
            texts = self._columns.texts(self._options.group)
            kept = [index for index, text in enumerate(texts) if text is not None]
            if len(kept) < len(texts):
                self._notes.append(f"{len(texts) - len(kept)} rows without {self._options.group} are left out")
            self._columns = self._columns.take(kept)
        if not self._columns.rows:
            raise InputError("no row is left by --where and --group; choose more of the table")

    def _thin_curves(self) -> None:
        """Numbers are read in every row, so that a wrong one is found; then long curves are thinned."""
        for name, source in self._sources.items():
            if name not in TEXT_COLUMNS:
                self._columns = self._columns.as_numbers(source)
        if "run_id" not in self._sources:
            return
        before, curve = len(self._columns.rows), self._curves()
        kept = kept_points(curve, self._places(), self._array("loss"))
        self._columns = self._columns.take(kept)
        self._notes += thinning_note(len(kept), before, "rows")

    def _curves(self) -> npt.NDArray[np.int64]:
        """The number of each row's curve: a run's rows that have the same columns and status."""
        runs = self._columns.numbering(self._sources["run_id"])
        curve = runs.copy()
        if "status" in self._sources:
            status = self._columns.numbering(self._sources["status"])
            curve = curve * (status.max() + 2) + status + 1
        for source in self._sources.values():
            curve = 2 * curve + self._columns.known(source)
        return np.where(runs < 0, -1, curve)

    def _places(self) -> npt.NDArray[np.float64]:
        tokens = self._array("tokens")
        return np.where(np.isnan(tokens), self._array("flops"), tokens)

    def _array(self, column: str) -> npt.NDArray[np.float64]:
        if column not in self._sources:
            return np.full(len(self._columns.rows), np.nan)
        return self._columns.array(self._sources[column])

    def _only_count(self) -> ParamsCount:
        if "params" in self._sources:
            return ParamsCount.STANDARD
        found = [count for count in ParamsCount if count.column in self._sources]
        if len(found) > 1:
            raise InputError(
                "it has non_embedding_params and total_params and no params; say which is N with --params-count"
            )
        if not found:
            return ParamsCount.STANDARD
        self._notes.append(f"N is {found[0].column}, the only count of params in the table")
        return found[0]

    def _canonical(self, column: str) -> Sequence[Value]:
        """The values of a canonical column, all None where the file has it not."""
        if column not in self._sources:
            return [None] * len(self._columns.rows)
        source = self._sources[column]
        return self._columns.texts(source) if column in TEXT_COLUMNS else self._columns.numbers(source)

    def _batch_tokens(self) -> Sequence[float | None]:
        """The batch in tokens, whatever the table counts it in."""
        column = "batch_tokens" if "batch_tokens" in self._sources else "batch_size"
        if column not in self._sources:
            return [None] * len(self._columns.rows)
        values = self._columns.numbers(self._sources[column])
        named = BatchUnit.TOKENS if column == "batch_tokens" else BatchUnit.SEQUENCES
        if (self._options.batch_unit or named) is BatchUnit.TOKENS:
            return values
        length = self._options.sequence_length
        if length is None:
            self._notes.append("batch_size is in sequences and is not used: give --seq-len, the tokens of one sequence")
            return [None] * len(values)
        return [None if value is None else value * length for value in values]

    def _distinct(self, values: Mapping[str, Sequence[Value]]) -> list[RunRecord]:
        """A record a row; a row that repeats another exactly is left out, and said."""
        first: dict[tuple[Value, ...], int] = {}
        records, repeated = [], []
        for row, measured in zip(self._columns.rows, zip(*values.values(), strict=True), strict=True):
            if first.setdefault(measured, row) != row:
                repeated.append(f"row {row} repeats row {first[measured]}")
            else:
                records.append(_record(row, dict(zip(values, measured, strict=True))))
        if repeated:
            self._notes.append(f"{len(repeated)} repeated rows are left out ({repeated[0]})")
        return records


def _record(row: int, values: dict[str, Any]) -> RunRecord:
    """A row as a record: without run_id it is a run of its own, without status it was completed."""
    seed = values["seed"]
    if seed is not None:
        if not float(seed).is_integer():
            raise InputError(f"row {row}, column 'seed' is {seed:g}; give a whole number")
        values["seed"] = int(seed)
    values["run_id"] = values["run_id"] or f"row {row}"
    values["status"] = (values["status"] or "completed").lower()
    try:
        return RunRecord(**values)
    except InputError as error:
        raise InputError(f"row {row}: {error}") from error
