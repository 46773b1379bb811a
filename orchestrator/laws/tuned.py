"""The tuned envelope: what the loss laws are fitted to, so that they do not measure bad tuning (design 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.laws.optimum import OptimumFit
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Exclusion, Floats
from orchestrator.laws.selection import (
    SAME_COUNT,
    CellRuns,
    Selection,
    envelope_record,
    group_cells,
    present,
    raw_envelope,
    select,
    share_runs,
)

# Up to so many epochs repeated tokens are worth nearly as much as new ones (Muennighoff et al. 2023, arXiv:2305.16264).
MOST_EPOCHS = 4.0
SIZES = ("params", "tokens", "loss")


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A point a cell, how many runs the cells have, and which had no place in them.

    `runs` is None where the points are the records themselves, of which a law selects its own. `covariance`
    is that of the log losses, in the order of the records; None where it is not known.
    """

    records: Sequence[RunRecord]
    runs: int | None = None
    excluded: tuple[Exclusion, ...] = ()
    covariance: Floats | None = None


def tuned_envelope(selection: Selection, optima: OptimumFit) -> Envelope:
    """The fitted loss at the fitted optimum of each cell.

    Where cells share runs, all cells of a scale are one exchangeable unit: they get one run_id.
    """
    shared = share_runs(optima.cells)
    records = []
    for cell, optimum in zip(optima.cells, optima.optima, strict=True):
        unit = f"scale {cell.scale}" if shared else f"scale {cell.scale}, {cell.tokens:.6g} tokens"
        records.append(envelope_record(cell, optimum.loss.value, unit=unit))
    floors = optima.surface.floor.size
    covariance = optima.surface.covariance[:floors, :floors]
    return Envelope(records=records, runs=optima.runs, excluded=selection.excluded, covariance=covariance)


def untuned_envelope(records: Sequence[RunRecord]) -> Envelope:
    """The lowest measured loss of each cell where cells have several runs with settings, else the records."""
    as_measured = Envelope(records=records)
    if not all(present(records, column) for column in (*SIZES, "learning_rate")):
        return as_measured
    selection = select(records, SIZES, law="the envelope")
    cells = group_cells(selection)
    if not any(len(cell.runs) > 1 for cell in cells):
        return as_measured
    return Envelope(records=raw_envelope(cells), runs=_runs(cells), excluded=selection.excluded)


def without_repeats(records: Sequence[RunRecord]) -> tuple[Sequence[RunRecord], tuple[Exclusion, ...]]:
    """The runs that saw their tokens at most MOST_EPOCHS times, or do not say so; and why the others are out."""
    epochs: dict[str, float] = {}
    for record in records:
        if record.unique_tokens and record.tokens:
            epochs[record.run_id] = max(epochs.get(record.run_id, 0.0), record.tokens / record.unique_tokens)
    repeated = {run: times for run, times in epochs.items() if times > MOST_EPOCHS * (1 + SAME_COUNT)}
    if not repeated:
        return records, ()
    reason = f"it saw its tokens more than {MOST_EPOCHS:g} times, and the law is of new ones: see data-constrained"
    excluded = tuple(Exclusion(run=run, reason=reason) for run in repeated)
    return [record for record in records if record.run_id not in repeated], excluded


def _runs(cells: Sequence[CellRuns]) -> int:
    return len({run.run_id for cell in cells for run in cell.runs})
