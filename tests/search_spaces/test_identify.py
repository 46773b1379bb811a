"""Which laws a design can identify, and whether what it is told to add is enough."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search_spaces.axis import Fixed, LogUniform, OneMinusLog, PowersOfTwo
from search_spaces.identify import Identifiable, identifiable
from search_spaces.plan import Schedule, SweepPlan, plan_searches
from search_spaces.scale import ModelScale
from search_spaces.space import SearchSpace

SPACE = SearchSpace(learning_rate=LogUniform(1e-4, 1e-1), batch_size=PowersOfTwo(1, 8), beta2=OneMinusLog(0.9, 0.999))
FIXED = SearchSpace(learning_rate=Fixed(1e-3), batch_size=Fixed(8), beta2=Fixed(0.95))
# Each scale has about twice the parameters of the one below.
SHAPES = ((2, 32, 96, 2), (2, 48, 128, 2), (3, 64, 176, 4), (4, 80, 208, 4), (5, 96, 256, 4), (6, 128, 352, 4))
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
LAWS = {
    "hyperparameters",
    "hyperparameters.tokens_exponent",
    "joint",
    "chinchilla",
    "envelope",
    "isoflop",
    "isoflop-akima",
    "frontier",
    "kaplan-n",
    "kaplan-d",
    "kaplan-c",
    "kaplan-nd",
    "kaplan-ns",
    "critical-batch",
    "trajectory",
    "overtraining",
    "downstream",
    "compute-only",
    "adaptive",
    "data-constrained",
}


def answers(
    *,
    scales: tuple[ModelScale, ...] = LADDER,
    ratios: tuple[float, ...] = (2.5, 5.0, 20.0, 80.0),
    trials: int = 16,
    space: SearchSpace = SPACE,
    schedule: Schedule = Schedule.CONSTANT,
) -> dict[str, Identifiable]:
    searches = tuple(
        search
        for scale in scales
        for search in plan_searches(scale=scale, space=space, tokens_per_param=ratios, trials=trials, schedule=schedule)
    )
    plan = SweepPlan(name="any", searches=searches, schedule=schedule)
    return {answer.law: answer for answer in identifiable(plan)}


GOOD = answers()


def test_every_law_is_answered_once_with_a_reason() -> None:
    assert set(GOOD) == LAWS
    assert all(answer.reason for answer in GOOD.values())


def test_a_wide_design_identifies_all_that_a_sweep_can() -> None:
    assert {law for law, answer in GOOD.items() if not answer.yes} == {"kaplan-d", "downstream", "data-constrained"}


@pytest.mark.parametrize(
    ("law", "column"),
    [("kaplan-d", "unique_tokens"), ("downstream", "error"), ("data-constrained", "unique_tokens")],
)
def test_laws_of_other_measurements_point_to_a_table(law: str, column: str) -> None:
    assert f"column {column}" in GOOD[law].reason


@pytest.mark.parametrize(
    "law", ["hyperparameters", "joint", "chinchilla", "frontier", "isoflop", "kaplan-c", "kaplan-nd", "overtraining"]
)
def test_two_scales_are_too_few(law: str) -> None:
    assert not answers(scales=LADDER[:2])[law].yes


def test_the_number_of_scales_wanted_is_said() -> None:
    assert "2 scales; add scales until there are 3" in answers(scales=LADDER[:2])["hyperparameters"].reason


def test_three_scales_identify_but_give_no_intervals() -> None:
    three, four = (answers(scales=LADDER[:count])["hyperparameters"] for count in (3, 4))
    assert three.yes
    assert "intervals need a fourth scale" in three.reason
    assert "intervals" not in four.reason


@pytest.mark.parametrize("law", ["hyperparameters.tokens_exponent", "chinchilla", "kaplan-nd", "overtraining"])
def test_one_tokens_per_param_does_not_tell_tokens_from_params(law: str) -> None:
    answer = answers(ratios=(20.0,))[law]
    assert not answer.yes
    assert "tokens_per_param spans 4 times on 0 scales" in answer.reason


def test_one_tokens_per_param_still_identifies_the_hyperparameters_along_it() -> None:
    assert answers(ratios=(20.0,))["hyperparameters"].yes


@pytest.mark.parametrize(("ratios", "enough"), [((10.0, 30.0), False), ((10.0, 40.0), True)])
def test_a_tokens_exponent_needs_four_times(ratios: tuple[float, ...], enough: bool) -> None:
    assert answers(ratios=ratios)["hyperparameters.tokens_exponent"].yes is enough


def test_separate_searches_of_one_scale_count_together() -> None:
    assert answers(schedule=Schedule.COSINE)["chinchilla"].yes


@pytest.mark.parametrize(("trials", "enough"), [(6, False), (7, True)])
def test_three_searched_settings_need_seven_trials(trials: int, enough: bool) -> None:
    answer = answers(trials=trials)["hyperparameters"]
    assert answer.yes is enough
    assert enough or "s1-80tpp has 6 trials; give every search 7 or more" in answer.reason


def test_one_searched_setting_needs_three_trials() -> None:
    space = replace(FIXED, learning_rate=LogUniform(1e-4, 1e-1))
    assert answers(space=space, trials=3)["hyperparameters"].yes
    assert not answers(space=space, trials=2)["hyperparameters"].yes


def test_fixed_settings_leave_nothing_to_find() -> None:
    answer = answers(space=FIXED)["hyperparameters"]
    assert not answer.yes
    assert "every setting is fixed" in answer.reason


def test_fixed_settings_leave_the_loss_laws() -> None:
    assert answers(space=FIXED)["chinchilla"].yes


def test_a_joint_fit_needs_more_runs_than_constants() -> None:
    few = answers(scales=LADDER[:3], trials=5, space=replace(SPACE, beta2=Fixed(0.95)))
    assert few["hyperparameters"].yes
    assert not answers(scales=LADDER[:3], trials=3, space=replace(SPACE, beta2=Fixed(0.95)))["joint"].yes
    assert few["joint"].yes


def test_sizes_that_share_no_compute_have_no_isoflop() -> None:
    narrow = answers(ratios=(20.0,))["isoflop"]
    assert not narrow.yes
    assert "3 sizes share no compute" in narrow.reason
    assert GOOD["isoflop"].yes
    assert GOOD["isoflop-akima"].yes


@pytest.mark.parametrize("law", ["envelope", "kaplan-ns", "critical-batch", "trajectory", "adaptive"])
def test_laws_of_whole_curves_need_the_constant_schedule(law: str) -> None:
    answer = answers(schedule=Schedule.COSINE)[law]
    assert not answer.yes
    assert "use the constant schedule" in answer.reason
    assert GOOD[law].yes


def test_a_frontier_needs_crossing_sizes() -> None:
    apart = (LADDER[0], LADDER[2], LADDER[5])
    assert not answers(scales=apart, ratios=(20.0,))["frontier"].yes


@pytest.mark.parametrize(("longest", "enough"), [(40.0, False), (80.0, True), (160.0, True)])
def test_kaplans_law_of_size_needs_converged_models(longest: float, enough: bool) -> None:
    answer = answers(ratios=(5.0, longest))["kaplan-n"]
    assert answer.yes is enough
    assert enough or "0 scales trained near convergence" in answer.reason


def test_a_critical_batch_needs_four_batch_sizes() -> None:
    answer = answers(space=replace(SPACE, batch_size=PowersOfTwo(1, 4)))["critical-batch"]
    assert not answer.yes
    assert "3 batch sizes at one scale" in answer.reason


def test_a_critical_batch_needs_three_trials_a_batch_size() -> None:
    answer = answers(trials=11)["critical-batch"]
    assert not answer.yes
    assert "11 trials for 4 batch sizes at one scale; give one scale 12 or more" in answer.reason
    assert answers(trials=12)["critical-batch"].yes


def test_one_scale_with_enough_batches_is_enough_for_the_critical_batch() -> None:
    searches = tuple(
        search
        for scale, trials in zip(LADDER[:3], (8, 12, 8), strict=True)
        for search in plan_searches(
            scale=scale, space=SPACE, tokens_per_param=(20.0,), trials=trials, schedule=Schedule.CONSTANT
        )
    )
    plan = SweepPlan(name="any", searches=searches, schedule=Schedule.CONSTANT)
    assert {answer.law: answer.yes for answer in identifiable(plan)}["critical-batch"]


def test_the_split_of_compute_can_only_be_judged_with_several_cells() -> None:
    assert not answers(scales=LADDER[:2], ratios=(5.0, 20.0))["compute-only"].yes
    assert answers(scales=LADDER[:2], ratios=(5.0, 20.0, 80.0))["compute-only"].yes


def test_a_missing_thing_is_said_once() -> None:
    reason = answers(scales=LADDER[:2])["joint"].reason
    assert reason.count("add scales") == 1
