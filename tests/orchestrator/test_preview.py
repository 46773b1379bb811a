"""What a plan would cost."""

from __future__ import annotations

import pytest
import tiny

from orchestrator import config
from orchestrator.ports import Resources
from orchestrator.preview import (
    ASSUMED_CPU_FLOPS_PER_S,
    ASSUMED_GPU_FLOPS_PER_S,
    as_text,
    preview,
    trial_memory_bytes,
)

PLAN = tiny.sweep().plan()


def cpu(_: str) -> Resources:
    return Resources()


def test_the_sums_are_the_plans() -> None:
    shown = preview(PLAN, cpu)
    assert (shown.trials, shown.tokens, shown.flops) == (PLAN.trials, PLAN.tokens, PLAN.flops())
    assert sum(row.flops for row in shown.searches) == shown.flops
    assert sum(row.device_hours for row in shown.searches) == pytest.approx(shown.device_hours)
    by_hand = sum(6 * s.cell.scale.params * s.cell.tokens * s.planned_trials for s in PLAN.searches)
    assert shown.flops == by_hand


def test_device_hours_at_the_assumed_rates() -> None:
    on_cpu = preview(PLAN, cpu)
    assert on_cpu.assumed
    assert on_cpu.device_hours == pytest.approx(PLAN.flops() / ASSUMED_CPU_FLOPS_PER_S / 3600)
    on_two = preview(PLAN, lambda _: Resources(cpus=2))  # twice as fast, on twice as many
    assert on_two.device_hours == pytest.approx(on_cpu.device_hours)
    on_gpu = preview(PLAN, lambda _: Resources(cpus=4, gpus=0.25))
    assert on_gpu.device_hours == pytest.approx(PLAN.flops() / ASSUMED_GPU_FLOPS_PER_S / 3600)


def test_a_measured_rate_replaces_the_assumed_one() -> None:
    small, large = PLAN.searches[0], PLAN.searches[-1]
    measured = {small.cell.scale.params: 1e9, large.cell.scale.params: 4e9}
    shown = preview(PLAN, cpu, measured)
    assert not shown.assumed
    assert shown.searches[0].device_hours == pytest.approx(shown.searches[0].flops / 1e9 / 3600)
    assert shown.searches[-1].device_hours == pytest.approx(shown.searches[-1].flops / 4e9 / 3600)
    # The nearest size's: 3,072 and 5,632 are nearer to 896 than to 21,504.
    assert shown.searches[1].device_hours == pytest.approx(shown.searches[1].flops / 1e9 / 3600)


def test_memory_has_the_state_and_grows_with_the_batch() -> None:
    porian = config.load("porian").plan()
    largest = porian.searches[-1]
    assert trial_memory_bytes(largest) > 16 * largest.cell.scale.total_params
    memory = [trial_memory_bytes(search) for search in porian.searches]
    assert memory == sorted(memory)
    smaller_batch = config.load("porian", ["space.batch_size.high=16"]).plan().searches[-1]
    assert trial_memory_bytes(smaller_batch) < trial_memory_bytes(largest)


def test_the_text_names_every_search_and_law() -> None:
    shown = preview(PLAN, cpu)
    said = as_text(shown)
    for search in PLAN.searches:
        assert search.name in said
    for law in shown.identifiable:
        assert law.law in said
    assert "assumed rate" in said
    assert f"{PLAN.trials} trials, {PLAN.tokens:,} tokens" in said
    assert "at the measured rate" in as_text(preview(PLAN, cpu, {1000: 1e9}))
