"""Counts and settings of runs: the missing one of params, tokens, flops; what does not fit together or cannot be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.laws.records import CANONICAL_COLUMNS, RunRecord
from orchestrator.laws.selection import PLAUSIBLE
from search_spaces.errors import InputError

FLOPS_PER_PARAM_TOKEN = 6
# Counts that differ by more, relatively, are worth a word: tables round to three digits. A guess.
ROUNDED = 0.01
# A batch that is wrong by this factor or more, the same in nearly every row, is in another unit: sequences
# are this long or longer. Guesses.
SHORTEST_SEQUENCE = 16
NEARLY_ALL = 0.9
# Values of these that cannot be are taken as not known; those of params, tokens and loss leave the point out.
_CHECKED = ("non_embedding_params", "flops", "learning_rate", "batch_tokens", "beta2", "unique_tokens")


@dataclass(frozen=True, kw_only=True)
class Completed:
    """Records with all three counts where two were known, and what a person should know."""

    records: tuple[RunRecord, ...]
    notes: tuple[str, ...]


def complete(records: Sequence[RunRecord]) -> Completed:
    """Derive the third of params, tokens and flops (6 params tokens) and hold the counts against each other.

    Given flops stand. Raises InputError where batch_tokens is plainly in sequences, or rows of several
    runs have one run_id.
    """
    repeated = _check_runs(records)
    possible, impossible = _possible(records)
    completed = tuple(_complete(record) for record in possible)
    batches = _differing_batches(completed)
    notes = (*repeated, *impossible, *_derived(possible), *_differing_flops(possible), *batches.notes)
    return Completed(records=batches.records, notes=notes)


def _check_runs(records: Sequence[RunRecord]) -> list[str]:
    """What is odd about rows of one run. Raises InputError where a run has several sizes: that is no run."""
    first: dict[str, float | None] = {}
    for record in records:
        known = first.setdefault(record.run_id, record.params)
        if known and record.params and abs(record.params / known - 1) > ROUNDED:
            raise InputError(
                f"run_id {record.run_id!r} has rows with params {known:g} and {record.params:g}; "
                "a run_id names one run: correct it, or leave the column out where each row is a run"
            )
    places = {(record.run_id, record.tokens) for record in records if record.tokens is not None}
    repeated = sum(record.tokens is not None for record in records) - len(places)
    if not repeated or len(first) == len(records):
        return []
    return [f"{_rows(repeated, records)} repeat the tokens of another row of the same run; does run_id name one run?"]


def _possible(records: Sequence[RunRecord]) -> tuple[list[RunRecord], list[str]]:
    """The records without values that cannot be, and a note for each column that has some."""
    possible, notes = list(records), []
    for column in _CHECKED:
        low, high = PLAUSIBLE[column]
        values = [(place, getattr(record, column)) for place, record in enumerate(records)]
        wrong = [(place, value) for place, value in values if value is not None and not low <= value <= high]
        for place, _ in wrong:
            possible[place] = _with(possible[place], **{column: None})
        if wrong:
            notes.append(
                f"{column} is taken as not known in {_rows(len(wrong), records)}: {wrong[0][1]:.12g} cannot be "
                f"({low:.12g} to {high:.12g})"
            )
    return possible, notes


def _complete(record: RunRecord) -> RunRecord:
    params, tokens, flops = record.params, record.tokens, record.flops
    if flops is None and params and tokens:
        return _with(record, flops=FLOPS_PER_PARAM_TOKEN * params * tokens)
    if tokens is None and params and flops:
        return _with(record, tokens=flops / (FLOPS_PER_PARAM_TOKEN * params))
    if params is None and tokens and flops:
        return _with(record, params=flops / (FLOPS_PER_PARAM_TOKEN * tokens))
    return record


def _with(record: RunRecord, **values: float | None) -> RunRecord:
    """The record with other values, by names that only the caller knows."""
    return RunRecord(**({name: getattr(record, name) for name in CANONICAL_COLUMNS} | values))


def _derived(records: Sequence[RunRecord]) -> list[str]:
    formulas = {
        "flops": "6 * params * tokens",
        "tokens": "flops / (6 * params)",
        "params": "flops / (6 * tokens)",
    }
    missing = [[name for name in formulas if getattr(record, name) is None] for record in records]
    counted = Counter(names[0] for names in missing if len(names) == 1)
    return [f"{name} = {formulas[name]} in {_rows(count, records)}" for name, count in counted.items()]


def _differing_flops(records: Sequence[RunRecord]) -> list[str]:
    ratios = [
        record.flops / (FLOPS_PER_PARAM_TOKEN * record.params * record.tokens)
        for record in records
        if record.flops and record.params and record.tokens
    ]
    differing = [ratio for ratio in ratios if not abs(ratio - 1) <= ROUNDED]
    if not differing:
        return []
    return [
        f"flops differs from 6 * params * tokens in {_rows(len(differing), records)} "
        f"(by a factor of {_range(differing)}); flops stands"
    ]


def _differing_batches(records: tuple[RunRecord, ...]) -> Completed:
    """The records without batches that are not in tokens, and what a person should know."""
    ratios = [ratio for record in records if (ratio := _batch_ratio(record))]
    differing = [ratio for ratio in ratios if not abs(ratio - 1) <= ROUNDED]
    if not differing:
        return Completed(records=records, notes=())
    middle = sorted(ratios)[len(ratios) // 2]
    alike = sum(abs(ratio / middle - 1) <= ROUNDED for ratio in ratios)
    if middle >= SHORTEST_SEQUENCE and alike >= NEARLY_ALL * len(ratios):
        raise InputError(
            f"batch_tokens * steps is tokens / {middle:.5g} in {_rows(alike, records)}, so the batch seems to be in "
            f"sequences; say so with --batch-unit sequences --seq-len {round(middle)}"
        )
    notes = [
        f"batch_tokens * steps differs from tokens in {_rows(len(differing), records)} "
        f"(by a factor of {_range(differing)}); is the batch in tokens everywhere?"
    ]
    sequences = [(_batch_ratio(record) or 0.0) >= SHORTEST_SEQUENCE for record in records]
    if any(sequences):
        notes.append(f"batch_tokens is not used in {_rows(sum(sequences), records)}: it seems to be in sequences there")
        kept = (
            _with(record, batch_tokens=None) if wrong else record
            for record, wrong in zip(records, sequences, strict=True)
        )
        records = tuple(kept)
    return Completed(records=records, notes=tuple(notes))


def _batch_ratio(record: RunRecord) -> float | None:
    """Tokens over batch_tokens * steps; None where one of them is not known."""
    if record.tokens and record.batch_tokens and record.steps:
        return record.tokens / (record.batch_tokens * record.steps)
    return None


def _rows(count: int, records: Sequence[RunRecord]) -> str:
    return f"all {count} rows" if count == len(records) else f"{count} of {len(records)} rows"


def _range(ratios: Sequence[float]) -> str:
    low, high = f"{min(ratios):.3g}", f"{max(ratios):.3g}"
    return low if low == high else f"{low} to {high}"
