"""The columns of a CSV or Parquet file, as numbers or as text, with a message for each wrong value."""

from __future__ import annotations

import codecs
import gzip
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from search_spaces.errors import InputError

# Columns of so many rows take some hundred megabytes. A guess at what fits everywhere.
MAX_ROWS = 1_000_000
_LOOKED_AT = 65536  # bytes of a CSV file whose encoding and separator are looked at before it is read
_OTHER_SEPARATORS = {"semicolons": ";", "tabs": "\t", "bars": "|"}
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

    def take(self, kept: Sequence[int] | npt.NDArray[np.intp]) -> Columns:
        """Only these rows, by index."""
        rows = [self.rows[int(index)] for index in kept]
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
        found: list[float | None] = self._floats(name).to_pylist()
        return found

    def as_numbers(self, name: str) -> Columns:
        """The same with a column's texts turned into numbers. Raises InputError as `numbers` does."""
        if pa.types.is_floating(self.table[name].type):
            return self
        at = self.table.schema.get_field_index(name)
        return replace(self, table=self.table.set_column(at, name, self._floats(name)))

    def array(self, name: str) -> npt.NDArray[np.float64]:
        """A column of numbers as an array, NaN where there is no value."""
        found: npt.NDArray[np.float64] = pc.fill_null(self._floats(name), math.nan).to_numpy()
        return found

    def numbering(self, name: str) -> npt.NDArray[np.int64]:
        """The number of each row's text, -1 where there is none."""
        texts = pc.cast(self.table[name], pa.string()).combine_chunks()
        found: npt.NDArray[np.int64] = pc.fill_null(pc.dictionary_encode(texts).indices, -1).to_numpy()
        return found.astype(np.int64)

    def known(self, name: str) -> npt.NDArray[np.bool_]:
        """Where a column has a value."""
        found: npt.NDArray[np.bool_] = self.table[name].is_valid().to_numpy()
        return found

    def values(self, name: str) -> Sequence[float | str | None]:
        """A column as numbers where every value is one, else as text."""
        try:
            return self.numbers(name)
        except InputError:
            return self.texts(name)

    def _floats(self, name: str) -> pa.ChunkedArray:
        column = self.table[name]
        if pa.types.is_boolean(column.type) or pa.types.is_temporal(column.type):
            raise InputError(f"column {name!r} holds {column.type}; give a column of numbers")
        try:
            return pc.cast(column, pa.float64(), safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            texts = zip(self.rows, self.texts(name), strict=True)
            return pa.chunked_array([[_number(name, row, text) for row, text in texts]], pa.float64())


def open_table(path: Path) -> TableFile:
    """The file, its header read. Raises InputError where it is no table."""
    if not path.name.endswith((".parquet", ".pq", ".csv", ".csv.gz")):
        raise InputError("its name says neither CSV nor Parquet; give a file that ends in .csv, .csv.gz or .parquet")
    try:
        if path.name.endswith((".parquet", ".pq")):
            names = parquet.read_schema(path).names
            return TableFile(names=names, load=lambda wanted: parquet.read_table(path, columns=wanted))
        _check_text(path)
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


def _check_text(path: Path) -> None:
    """Raise InputError where the beginning of a CSV file says that it is none."""
    with path.open("rb") as raw, gzip.open(raw) if path.name.endswith(".gz") else raw as file:
        start = file.read(_LOOKED_AT)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError("it is UTF-16; save it as UTF-8")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start)
    except UnicodeDecodeError as error:
        raise InputError(f"it is not UTF-8 (byte {error.start} is {start[error.start]:#x}); save it as UTF-8") from None
    if not text.strip():
        raise InputError("it is empty; give a table with a header and a row for each run")
    header = text.lstrip().splitlines()[0]
    for name, mark in _OTHER_SEPARATORS.items():
        if mark in header and "," not in header:
            raise InputError(f"its columns are separated by {name}; save it with commas (and decimal points)")


def _unreadable(error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if "Empty CSV file" in reason:  # a header without the end of its line
        return InputError("it has no rows; give a table with a header and a row for each run")
    return InputError(f"it cannot be read as a table: {reason}; correct it there, or save it again as UTF-8 CSV")


def _number(name: str, row: int, text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise InputError(
            f"row {row}, column {name!r} is {text!r}, not a number; correct it, or leave such rows out with --where"
        ) from None
