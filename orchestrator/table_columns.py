"""The columns of a CSV or Parquet file, as numbers or as text, with a message for each wrong value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from search_spaces.errors import InputError

# A record takes about half a kilobyte, so these are half a gigabyte. A guess at what fits everywhere.
MAX_ROWS = 1_000_000
# How tables write that there is no value. Not-a-number is none of them: it is a loss that broke.
MISSING = ["", "NA", "N/A", "n/a", "null", "NULL", "None", "-"]

Load = Callable[[Sequence[str]], pa.Table]


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """A file's column names, and what loads some of them."""

    names: Sequence[str]
    load: Load


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Loaded columns, and each row's number in the file, 1 the first below the header."""

    table: pa.Table
    rows: Sequence[int]

    def take(self, kept: Sequence[int]) -> Columns:
        """Only these rows, by index."""
        rows = [self.rows[index] for index in kept]
        return replace(self, table=self.table.take(pa.array(kept, pa.int64())), rows=rows)

    def texts(self, name: str) -> Sequence[str | None]:
        """A column as text. Raises InputError where that cannot be."""
        try:
            found: list[str | None] = pc.cast(self.table[name], pa.string()).to_pylist()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            kind = self.table[name].type
            raise InputError(f"column {name!r} holds {kind}; give a column of texts or numbers") from error
        return found

    def numbers(self, name: str) -> Sequence[float | None]:
        """A column as numbers. Raises InputError naming the first value that is none."""
        column = self.table[name]
        if pa.types.is_boolean(column.type) or pa.types.is_temporal(column.type):
            raise InputError(f"column {name!r} holds {column.type}; give a column of numbers")
        try:
            found: list[float | None] = pc.cast(column, pa.float64(), safe=False).to_pylist()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return [_number(name, row, text) for row, text in zip(self.rows, self.texts(name), strict=True)]
        return found

    def values(self, name: str) -> Sequence[float | str | None]:
        """A column as numbers where every value is one, else as text."""
        try:
            return self.numbers(name)
        except InputError:
            return self.texts(name)


def open_table(path: Path) -> TableFile:
    """The file, its header read. Raises InputError where it is no table."""
    if not path.name.endswith((".parquet", ".pq", ".csv", ".csv.gz")):
        raise InputError("its name says neither CSV nor Parquet; give a file that ends in .csv, .csv.gz or .parquet")
    try:
        if path.name.endswith((".parquet", ".pq")):
            names = parquet.read_schema(path).names
            return TableFile(names=names, load=lambda wanted: parquet.read_table(path, columns=wanted))
        with csv.open_csv(path) as stream:
            return TableFile(names=stream.schema.names, load=lambda wanted: _read_csv(path, wanted))
    except FileNotFoundError as error:
        raise InputError("there is no such file; give a CSV or Parquet table") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _unreadable(error) from error


def load_columns(file: TableFile, wanted: Sequence[str]) -> Columns:
    """Load these columns. Raises InputError where the file is damaged, empty or too long."""
    try:
        table = file.load(wanted)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _unreadable(error) from error
    if table.num_rows == 0:
        raise InputError("it has a header and no rows; give a table with a row for each run")
    if table.num_rows > MAX_ROWS:
        raise InputError(
            f"it has {table.num_rows} rows, and at most {MAX_ROWS} are read; "
            "thin its curves: a law uses 20 points of a run"
        )
    return Columns(table=table, rows=range(1, table.num_rows + 1))


def _read_csv(path: Path, wanted: Sequence[str]) -> pa.Table:
    """Every value as it was written, so that a wrong one can be shown."""
    options = csv.ConvertOptions(
        include_columns=wanted,
        column_types=dict.fromkeys(wanted, pa.string()),
        null_values=MISSING,
        strings_can_be_null=True,
    )
    return csv.read_csv(path, convert_options=options)


def _unreadable(error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"it cannot be read as a table: {reason}")


def _number(name: str, row: int, text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise InputError(
            f"row {row}, column {name!r} is {text!r}, not a number; correct it, or leave such rows out with --where"
        ) from None
