"""Params, tokens and flops of runs: the missing one of the three, and what does not fit together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.laws.records import RunRecord
from search_spaces.errors import InputError

FLOPS_PER_PARAM_TOKEN = 6
# Counts that differ by more, relatively, are worth a word: tables round to three digits. A guess.
ROUNDED = 0.01
# A batch that is wrong by this factor or more, the same in nearly every row, is in another unit: sequences
# are this long or longer. Guesses.
SHORTEST_SEQUENCE = 16
NEARLY_ALL = 0.9


@dataclass(frozen=True, kw_only=True)
class Completed:
    """Records with all three counts where two were known, and what a person should know."""

    records: tuple[RunRecord, ...]
    notes: tuple[str, ...]


def complete(records: Sequence[RunRecord]) -> Completed:
    """Derive the third of params, tokens and flops (6 params tokens) and hold the counts against each other.

    Given flops stand. Raises InputError where batch_tokens is plainly in sequences.
    """
    completed = tuple(_complete(record) for record in records)
    notes = (*_derived(records), *_differing_flops(records), *_differing_batches(completed))
    return Completed(records=completed, notes=notes)


def _complete(record: RunRecord) -> RunRecord:
    params, tokens, flops = record.params, record.tokens, record.flops
    if flops is None and params and tokens:
        return _with(record, flops=FLOPS_PER_PARAM_TOKEN * params * tokens)
    if tokens is None and params and flops:
        return _with(record, tokens=flops / (FLOPS_PER_PARAM_TOKEN * params))
    if params is None and tokens and flops:
        return _with(record, params=flops / (FLOPS_PER_PARAM_TOKEN * tokens))
    return record


def _with(record: RunRecord, **count: float) -> RunRecord:
    """What dataclasses.replace gives, three times as fast: tables have up to a million rows."""
    return RunRecord(**(vars(record) | count))


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


def _differing_batches(records: Sequence[RunRecord]) -> list[str]:
    ratios = [
        record.tokens / (record.batch_tokens * record.steps)
        for record in records
        if record.tokens and record.batch_tokens and record.steps
    ]
    differing = [ratio for ratio in ratios if not abs(ratio - 1) <= ROUNDED]
    if not differing:
        return []
    middle = sorted(ratios)[len(ratios) // 2]
    alike = sum(abs(ratio / middle - 1) <= ROUNDED for ratio in ratios)
    if middle >= SHORTEST_SEQUENCE and alike >= NEARLY_ALL * len(ratios):
        raise InputError(
            f"batch_tokens * steps is tokens / {middle:.5g} in {_rows(alike, records)}, so the batch seems to be in "
            f"sequences; say so with --batch-unit sequences --seq-len {round(middle)}"
        )
    return [
        f"batch_tokens * steps differs from tokens in {_rows(len(differing), records)} "
        f"(by a factor of {_range(differing)}); is the batch in tokens everywhere?"
    ]


def _rows(count: int, records: Sequence[RunRecord]) -> str:
    return f"all {count} rows" if count == len(records) else f"{count} of {len(records)} rows"


def _range(ratios: Sequence[float]) -> str:
    low, high = f"{min(ratios):.3g}", f"{max(ratios):.3g}"
    return low if low == high else f"{low} to {high}"
