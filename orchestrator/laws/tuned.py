"""The tuned envelope: what the loss laws are fitted to, so that they do not measure bad tuning (design 6)."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.laws.optimum import OptimumFit
from orchestrator.laws.records import RunRecord
from orchestrator.laws.selection import envelope_record, group_cells, present, raw_envelope, select, share_runs

SIZES = ("params", "tokens", "loss")


def tuned_envelope(optima: OptimumFit) -> tuple[RunRecord, ...]:
    """A record a cell: the fitted loss at the fitted optimum.

    Where cells share runs, all cells of a scale are one exchangeable unit: they get one run_id.
    """
    shared = share_runs(optima.cells)
    records = []
    for cell, optimum in zip(optima.cells, optima.optima, strict=True):
        unit = f"scale {cell.scale}" if shared else f"scale {cell.scale}, {cell.tokens:.6g} tokens"
        records.append(envelope_record(cell, optimum.loss.value, unit=unit))
    return tuple(records)


def untuned_envelope(records: Sequence[RunRecord]) -> Sequence[RunRecord]:
    """The lowest measured loss of each cell where cells have several runs with settings, else the records."""
    if not all(present(records, column) for column in (*SIZES, "learning_rate")):
        return records
    cells = group_cells(select(records, SIZES, law="the envelope"))
    return raw_envelope(cells) if any(len(cell.runs) > 1 for cell in cells) else records
