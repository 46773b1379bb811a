"""The tables that laws were fitted to, kept beside them as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.files import write_atomically
from orchestrator.laws.records import CANONICAL_COLUMNS, RunRecord
from search_spaces.errors import InputError

RUNS_FILE = "runs.parquet"
# Points of whole curves, where the runs' table has the ends of cells alone: the others are measured more coarsely.
CURVES_FILE = "curves.parquet"


def write_records(path: Path, records: Sequence[RunRecord]) -> None:
    """One row a record, canonical columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    columns = {name: [getattr(record, name) for record in records] for name in CANONICAL_COLUMNS}
    pq.write_table(pa.table(columns), sink)
    write_atomically(path, sink.getvalue().to_pybytes())


def read_records(path: Path) -> list[RunRecord]:
    """The inverse of `write_records`. Raises InputError where the file is not there or is no such table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return [RunRecord(**row) for row in pq.read_table(path).to_pylist()]
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error}; it is written beside laws.json by `fit --out` and `run`"
        ) from error
    except (pa.ArrowException, TypeError) as error:
        raise InputError(f"{path} is not a table of runs that scalesweep wrote: {error}") from error
