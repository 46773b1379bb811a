"""Plans: shared runs counted once, horizons of whole batches, one identity on every machine."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.axis import Fixed, LogUniform, OneMinusLog, PowersOfTwo
from search_spaces.errors import InputError
from search_spaces.ladders import ladder
from search_spaces.plan import Schedule, Search, SweepPlan, plan_searches
from search_spaces.scale import FlopsCount, ModelScale
from search_spaces.space import SearchSpace

SPACE = SearchSpace(learning_rate=LogUniform(1e-4, 1e-1), batch_size=PowersOfTwo(1, 16), beta2=OneMinusLog(0.9, 0.999))
SHAPES = ((2, 32, 96, 2), (2, 48, 128, 2), (3, 64, 176, 4), (4, 80, 208, 4))
LADDER = tuple(
    ModelScale(
        name=f"s{number}",
        depth=depth,
        width=width,
        ffn_width=ffn_width,
        heads=heads,
        vocab_size=256,
        sequence_length=128,
    )
    for number, (depth, width, ffn_width, heads) in enumerate(SHAPES, start=1)
)
RATIOS = (5.0, 10.0, 20.0)


def searches(
    scale: ModelScale,
    *,
    space: SearchSpace = SPACE,
    ratios: tuple[float, ...] = RATIOS,
    trials: int = 8,
    schedule: Schedule = Schedule.CONSTANT,
    seeds: int = 1,
) -> tuple[Search, ...]:
    return plan_searches(
        scale=scale, space=space, tokens_per_param=ratios, trials=trials, schedule=schedule, seeds=seeds
    )


def plan(schedule: Schedule = Schedule.CONSTANT, *, seeds: int = 1) -> SweepPlan:
    made = tuple(s for scale in LADDER for s in searches(scale, schedule=schedule, seeds=seeds))
    return SweepPlan(name="laptop", searches=made, schedule=schedule)


def test_under_a_constant_schedule_one_search_serves_every_cell_of_its_scale() -> None:
    made = plan()
    assert len(made.searches) == 4
    assert len(made.cells) == 12
    assert all(search.serves[-1] == search.cell for search in made.searches)


@pytest.mark.parametrize("schedule", [Schedule.COSINE, Schedule.WSD])
def test_under_a_decay_every_horizon_is_searched(schedule: Schedule) -> None:
    made = plan(schedule)
    assert len(made.searches) == len(made.cells) == 12
    assert all(search.serves == (search.cell,) for search in made.searches)


def test_a_run_that_serves_several_cells_is_counted_once() -> None:
    made = plan(seeds=3)
    longest = [max(c.tokens for c in made.cells if c.scale == scale) for scale in made.scales]
    assert made.trials == 4 * (8 + 2)
    assert made.tokens == 10 * sum(longest)
    by_hand = sum(6 * scale.params * tokens for scale, tokens in zip(made.scales, longest, strict=True))
    assert made.flops() == 10 * by_hand


def test_flops_follow_their_convention() -> None:
    made = plan()
    assert made.flops(FlopsCount.KAPLAN) < made.flops(FlopsCount.STANDARD) < made.flops(FlopsCount.ATTENTION)


@given(
    last_power=st.integers(0, 6),
    ratios=st.lists(st.floats(2.0, 200.0), min_size=1, max_size=4, unique=True),
    schedule=st.sampled_from(Schedule),
)
def test_horizons_and_evaluations_are_whole_numbers_of_every_batch(
    last_power: int, ratios: list[float], schedule: Schedule
) -> None:
    space = replace(SPACE, batch_size=PowersOfTwo(1, 2.0 ** (last_power + 1)))
    scale = LADDER[0]
    try:
        made = searches(scale, space=space, ratios=tuple(ratios), schedule=schedule)
    except InputError as error:
        assert "equal horizons" in str(error)  # the ratios lie closer than a batch
        return
    largest = 2 ** (last_power + 1) * scale.sequence_length
    for search in made:
        points = search.eval_tokens
        assert all(tokens % largest == 0 for tokens in points)
        assert list(points) == sorted(set(points))
        assert points[-1] == search.cell.tokens
        assert {cell.tokens for cell in search.serves} <= set(points)


def test_horizons_are_the_wanted_ratio_to_half_a_batch() -> None:
    scale = LADDER[0]
    batch = 16 * 128
    for cell, ratio in zip(searches(scale)[0].serves, RATIOS, strict=True):
        assert abs(cell.tokens - ratio * scale.params) <= batch / 2


def test_evaluations_are_about_evenly_spaced_by_logarithm() -> None:
    points = searches(ladder("porian")[-1])[0].eval_tokens
    assert 19 <= len(points) <= 22
    assert points[0] == pytest.approx(points[-1] / 64, rel=0.01)


def test_scales_and_neighbours_follow_size_whatever_the_order() -> None:
    forwards = plan()
    backwards = replace(forwards, searches=tuple(reversed(forwards.searches)))
    assert [scale.name for scale in backwards.scales] == ["s1", "s2", "s3", "s4"]
    s3 = forwards.search_of("s3", forwards.searches[2].cell.tokens)
    assert [search.cell.scale.name for search in backwards.below(s3)] == ["s2", "s1"]


def test_neighbours_of_one_scale_come_longest_horizon_first() -> None:
    made = plan(Schedule.COSINE)
    below = list(made.below(made.searches[-1]))
    assert [search.cell.scale.name for search in below] == ["s3"] * 3 + ["s2"] * 3 + ["s1"] * 3
    assert below[0].cell.tokens > below[1].cell.tokens > below[2].cell.tokens


def test_a_search_is_found_by_scale_and_horizon() -> None:
    made = plan()
    wanted = made.searches[1]
    assert made.search_of("s2", wanted.cell.tokens) is wanted
    with pytest.raises(KeyError):
        made.search_of("s2", wanted.cell.tokens + 1)


def test_equal_plans_have_one_fingerprint_whatever_kind_of_number() -> None:
    whole = replace(SPACE, batch_size=PowersOfTwo(1, 16))
    broken = replace(SPACE, batch_size=PowersOfTwo(1.0, 16.0))
    one, other = (
        SweepPlan(name="n", searches=searches(LADDER[0], space=space), schedule=Schedule.CONSTANT)
        for space in (whole, broken)
    )
    assert one == other
    assert one.fingerprint() == other.fingerprint()


def test_what_decides_a_plan_changes_its_fingerprint() -> None:
    made = plan()
    first, *rest = made.searches
    other_kind = replace(first, space=replace(SPACE, beta2=LogUniform(0.9, 0.999)))
    variants = [
        replace(made, name="other"),
        replace(made, seed=1),
        replace(made, schedule=Schedule.COSINE),
        replace(made, searches=(replace(first, trials=9), *rest)),
        replace(made, searches=(replace(first, held_out=True), *rest)),
        replace(made, searches=(other_kind, *rest)),  # same bounds, another way to search between them
        replace(made, searches=(replace(first, space=replace(SPACE, beta2=Fixed(0.95))), *rest)),
    ]
    prints = {variant.fingerprint() for variant in (made, *variants)}
    assert len(prints) == len(variants) + 1


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_another_process_finds_the_same_fingerprint(hash_seed: str) -> None:
    made = plan()
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer).fingerprint())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps(made),
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().strip() == made.fingerprint()


def test_a_plan_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="sweep 'empty' has no scales"):
        SweepPlan(name="empty", searches=(), schedule=Schedule.CONSTANT)


def test_two_searches_of_one_name_are_refused() -> None:
    (search,) = searches(LADDER[0])
    with pytest.raises(InputError, match="two searches are named 's1-20tpp'"):
        SweepPlan(name="twice", searches=(search, search), schedule=Schedule.CONSTANT)


def test_two_scales_of_one_name_are_refused() -> None:
    small, large = LADDER[:2]
    made = (*searches(small), *searches(replace(large, name="s1"), ratios=(7.0,)))
    with pytest.raises(InputError, match="has different scales of one name"):
        SweepPlan(name="twins", searches=made, schedule=Schedule.CONSTANT)


def test_a_batch_larger_than_the_shortest_cell_is_refused() -> None:
    space = replace(SPACE, batch_size=PowersOfTwo(1, 4096))
    with pytest.raises(InputError, match=r"scale 's1': the largest batch is 524,288 tokens \(4096 sequences of 128\)"):
        searches(LADDER[0], space=space)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ratios": ()}, "tokens_per_param is empty"),
        ({"ratios": (0.0, 5.0)}, "tokens_per_param has 0; each must be above 0"),
        ({"ratios": (-5.0,)}, "tokens_per_param has -5"),
        ({"ratios": (float("nan"),)}, "tokens_per_param has nan"),
        ({"ratios": (float("inf"),)}, "tokens_per_param has inf"),
        ({"ratios": (20.0, 20.001)}, "give equal horizons when rounded to the largest batch"),
        ({"trials": 0}, "trials is 0; it must be at least 1"),
        ({"seeds": 0}, "seeds is 0; it must be at least 1"),
    ],
)
def test_a_bad_design_is_refused_with_its_scale(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=f"scale 's1': {words}|scale 's1': tokens_per_param .* {words}"):
        searches(LADDER[0], **arguments)


def test_beyond_its_space_a_search_may_try_smaller_batches_and_no_larger_ones() -> None:
    (search,) = searches(LADDER[1], space=replace(SPACE, batch_size=PowersOfTwo(4, 16)))
    assert search.widest.batch_size.low < 4
    assert search.widest.batch_size.high == 16
    assert all(horizon % 16 == 0 for horizon in search.eval_tokens)
    fixed = replace(SPACE, batch_size=Fixed(8))
    assert searches(LADDER[1], space=fixed)[0].widest.batch_size == Fixed(8)
