"""What a sweep would cost and teach, before anything is spent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.ports import Resources
from search_spaces.identify import Identifiable, identifiable
from search_spaces.plan import Search, SweepPlan

# FLOP per second that one slot is taken to reach until it has been measured. Guesses: a CPU core on
# models of 10^4 to 10^6 parameters; an H100 in bf16 at two fifths of its dense peak of 989e12.
ASSUMED_CPU_FLOPS_PER_S = 2e10
ASSUMED_GPU_FLOPS_PER_S = 4e14
# fp32 weights, gradients and AdamW's two moments.
_STATE_BYTES_PER_PARAM = 16
# fp32 values that a llama block keeps for the backward pass, per token and per unit of width or
# ffn_width: a count of the block's intermediate results.
_KEPT_PER_WIDTH = 12
_KEPT_PER_FFN = 4


@dataclass(frozen=True, kw_only=True)
class SearchPreview:
    """One search's cost. Memory is one trial's, at the largest batch."""

    search: Search
    flops: float
    device_hours: float
    memory_gib: float


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The whole plan's cost. `assumed` says that no rate has been measured yet."""

    searches: tuple[SearchPreview, ...]
    trials: int
    tokens: int
    flops: float
    device_hours: float
    assumed: bool
    identifiable: tuple[Identifiable, ...]


def preview(
    plan: SweepPlan, resources: Callable[[str], Resources], measured: Mapping[int, float] | None = None
) -> Preview:
    """The cost of a plan; `measured` has FLOP per second of a slot by params, where there are any."""
    rows = tuple(_search_preview(search, resources(search.cell.scale.name), measured or {}) for search in plan.searches)
    return Preview(
        searches=rows,
        trials=plan.trials,
        tokens=plan.tokens,
        flops=float(plan.flops()),
        device_hours=sum(row.device_hours for row in rows),
        assumed=not measured,
        identifiable=identifiable(plan),
    )


def _search_preview(search: Search, resources: Resources, measured: Mapping[int, float]) -> SearchPreview:
    flops = float(search.planned_trials * search.cell.flops())
    devices = resources.gpus or resources.cpus
    return SearchPreview(
        search=search,
        flops=flops,
        device_hours=flops / slot_rate(search, resources, measured) * devices / 3600,
        memory_gib=trial_memory_bytes(search) / 2**30,
    )


def slot_rate(search: Search, resources: Resources, measured: Mapping[int, float]) -> float:
    """FLOP per second of one trial of the search: that of the nearest size measured, or the assumed one."""
    if measured:
        return measured[min(measured, key=lambda params: abs(params - search.cell.scale.params))]
    if resources.gpus:
        return resources.gpus * ASSUMED_GPU_FLOPS_PER_S
    return resources.cpus * ASSUMED_CPU_FLOPS_PER_S


def trial_memory_bytes(search: Search) -> float:
    """Bytes of one trial at the largest batch: state, kept activations, logits. An estimate."""
    scale = search.cell.scale
    kept = scale.depth * (_KEPT_PER_WIDTH * scale.width + _KEPT_PER_FFN * scale.ffn_width)
    per_token = 4 * (kept + 2 * scale.vocab_size)
    return float(_STATE_BYTES_PER_PARAM * scale.total_params + per_token * search.quantum)


def as_json(shown: Preview) -> dict[str, Any]:
    """Plain numbers and strings, for `plan --json`."""
    searches = [
        {
            "name": row.search.name,
            "params": row.search.cell.scale.params,
            "tokens": row.search.cell.tokens,
            "cells": len(row.search.serves),
            "trials": row.search.planned_trials,
            "flops": row.flops,
            "device_hours": row.device_hours,
            "memory_gib": row.memory_gib,
        }
        for row in shown.searches
    ]
    sums = {name: getattr(shown, name) for name in ("trials", "tokens", "flops", "device_hours", "assumed")}
    return {"searches": searches, **sums, "identifiable": [dataclasses.asdict(law) for law in shown.identifiable]}


def as_text(shown: Preview) -> str:
    """The preview as a person reads it: a table, the sum, and what the design can tell."""
    lines = [f"{'search':<14}{'N':>12}{'tokens':>15}{'cells':>7}{'trials':>8}{'FLOP':>11}{'memory':>10}{'hours':>9}"]
    for row in shown.searches:
        search = row.search
        lines.append(
            f"{search.name:<14}{search.cell.scale.params:>12,}{search.cell.tokens:>15,}{len(search.serves):>7}"
            f"{search.planned_trials:>8}{row.flops:>11.2e}{row.memory_gib:>7.2f}GiB{row.device_hours:>9.3g}"
        )
    rate = (
        f"assumed rate: {ASSUMED_CPU_FLOPS_PER_S:.0e} FLOP/s a CPU core, {ASSUMED_GPU_FLOPS_PER_S:.0e} a GPU"
        if shown.assumed
        else "at the measured rate"
    )
    lines.append(
        f"{shown.trials} trials, {shown.tokens:,} tokens, {shown.flops:.3g} FLOP (6·params·tokens, shared runs once), "
        f"{shown.device_hours:.3g} device-hours ({rate})"
    )
    lines.append("")
    lines.append("What this design can tell:")
    lines += [f"  {'yes' if law.yes else 'no ':<4}{law.law:<32}{law.reason}" for law in shown.identifiable]
    return "\n".join(lines)
