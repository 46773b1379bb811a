import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.laws.predict import Context, predict
from orchestrator.laws.predicted import widening_of
from orchestrator.laws.predicted_settings import settings_law
from orchestrator.laws.result import Estimate, FittedLaw, Status
from orchestrator.laws.shape import LadderShape, predict_shape
from search_spaces.errors import InputError

SPREAD = np.random.default_rng(0).standard_normal((500, 8))
LADDER = tuple(
    LadderShape(
        params=12 * depth * (24 * depth) ** 2 + 256 * 24 * depth,
        non_embedding_params=12 * depth * (24 * depth) ** 2,
        depth=depth,
        width=24 * depth,
        heads=depth,
    )
    for depth in (2, 3, 4, 6, 8)
)


def law(name, values, *, spread=0.02, **others):
    draws = {key: value * (1 + spread * SPREAD[:, place]) for place, (key, value) in enumerate(values.items())}
    parameters = {key: Estimate(value=value) for key, value in values.items()}
    valid = {"params": (1e6, 1e8), "tokens": (2e7, 2e9), "tokens_per_param": (5.0, 20.0)}
    return FittedLaw(name=name, form="", parameters=parameters, draws=draws, **{"valid": valid} | others)


CHINCHILLA = law("chinchilla", {"E": 1.8, "A": 480.0, "B": 2085.0, "alpha": 0.35, "beta": 0.37}, spread=0.002)
SETTINGS = law(
    "hyperparameters",
    {
        "learning_rate.coefficient": 3.7,
        "learning_rate.params_exponent": -0.36,
        "batch_tokens.coefficient": 0.6,
        "batch_tokens.tokens_exponent": 0.57,
        "beta2_half_life.coefficient": 20.0,
        "beta2_half_life.tokens_exponent": 0.6,
        "learning_rate.scatter": 0.2,
    },
    spread=0.001,
)
LAWS = {each.name: each for each in (CHINCHILLA, SETTINGS)}


def test_the_settings_are_those_of_the_laws():
    found = predict(LAWS, Context(), params=1e7, tokens=2e8)
    assert found.value("learning_rate") == pytest.approx(3.7 * 1e7**-0.36)
    batch, half_life = 0.6 * 2e8**0.57, 20 * 2e8**0.6
    assert found.value("batch_tokens") == pytest.approx(batch)
    assert found.value("beta2") == pytest.approx(2 ** (-batch / half_life))
    assert found.value("loss") == pytest.approx(1.8 + 480 * 1e7**-0.35 + 2085 * 2e8**-0.37)
    assert found.value("flops") == pytest.approx(6 * 1e7 * 2e8)
    assert found.value("warmup_tokens") == 1e7
    assert found.warnings == ()


def test_intervals_hold_the_value_and_a_single_run_varies_more():
    found = predict(LAWS, Context(noise_sd=0.01), params=1e7, tokens=2e8)
    for name in ("learning_rate", "loss"):
        each = found.quantities[name]
        assert each.predictive_low < each.low < each.value < each.high < each.predictive_high
    rate = found.quantities["learning_rate"]
    assert np.log(rate.predictive_high / rate.value) == pytest.approx(1.96 * 0.2, rel=0.1)


@settings(max_examples=25, deadline=None)
@given(st.floats(1e15, 1e24))
def test_sizes_from_flops_params_or_tokens_are_the_same_line(flops):
    first = predict(LAWS, Context(), flops=flops)
    for name in ("params", "tokens"):
        again = predict(LAWS, Context(), **{name: first.value(name)})
        assert again.value("flops") == pytest.approx(flops, rel=1e-6)


def test_the_optimal_size_minimises_the_loss():
    best = predict(LAWS, Context(), flops=1e18)
    for factor in (0.8, 1.25):
        other = predict(LAWS, Context(), flops=1e18, params=best.value("params") * factor)
        assert other.value("loss") > best.value("loss")


def test_a_weak_optimum_is_not_used_and_the_ladders_ratio_is():
    weak = FittedLaw(**{**vars(CHINCHILLA), "status": Status.WEAK, "reason": "few scales"})
    found = predict({"chinchilla": weak}, Context(tokens_per_param=(10.0, 40.0)), params=1e7)
    assert found.value("tokens") == pytest.approx(2e8)
    assert any("tokens_per_param = 20" in word for word in found.warnings)
    assert any("'chinchilla' is weak: few scales" in word for word in found.warnings)


def test_far_outside_is_said_with_the_factor():
    found = predict(LAWS, Context(), params=4e9, tokens=2e9)
    assert (
        "params is 40 times the largest used (1e+08) in the laws 'chinchilla' and 'hyperparameters'" in found.warnings
    )
    assert any(word.startswith("more than 30 times beyond what was measured") for word in found.warnings)


def test_off_the_line_of_a_law_is_said():
    lined = law("hyperparameters", {"learning_rate.coefficient": 3.7, "learning_rate.along_tokens_per_param": 20.0})
    found = predict({"hyperparameters": lined}, Context(), params=1e7, tokens=1e9)
    assert any("holds along tokens_per_param = 20, and the target's is 100" in word for word in found.warnings)


def test_another_context_is_said():
    found = predict(LAWS, Context(vocab_size=256), params=1e7, tokens=2e8, target={"vocab_size": 50432})
    assert found.warnings == ("the laws were measured with vocab_size = 256, and the target has 50432",)
    with pytest.raises(InputError, match="the context has no 'vocab'"):
        predict(LAWS, Context(), params=1e7, tokens=2e8, target={"vocab": 1})


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "give one or two"),
        ({"params": -1.0}, "params is -1; it must be a positive"),
        ({"params": 1e6, "tokens": 1e7, "flops": 1e9}, "give two of the three"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes, message):
    with pytest.raises(InputError, match=message):
        predict(LAWS, Context(), **sizes)


def test_one_size_without_a_law_of_the_optimum_is_refused():
    with pytest.raises(InputError, match="only params was given"):
        predict({}, Context(), params=1e6)


@pytest.mark.parametrize("scale", LADDER)
def test_a_shape_of_the_ladder_comes_back(scale):
    found = predict_shape(LADDER, scale.params)
    assert (found.depth, found.width, found.heads) == (scale.depth, scale.width, scale.heads)


@given(st.floats(1e5, 1e11))
def test_a_predicted_shape_has_about_the_wanted_params(params):
    found = predict_shape(LADDER, params)
    counted = 12 * found.depth * found.width**2 + 256 * found.width
    assert found.width % found.heads == 0
    assert abs(np.log(counted / params)) < 0.5


def test_shape_and_warmup_follow_the_interval_of_the_size():
    context = Context(ladder=LADDER, vocab_size=256)
    found = predict(LAWS, context, flops=1e18).quantities
    for name in ("params", "tokens", "width", "depth", "warmup_tokens", "non_embedding_params"):
        assert found[name].low <= found[name].value <= found[name].high
    assert found["params"].low < found["params"].high
    assert found["warmup_tokens"].value == min(found["params"].value, found["tokens"].value / 4)
    given_both = predict(LAWS, context, params=1e7, tokens=2e8).quantities
    assert given_both["width"].low is None
    assert given_both["warmup_tokens"].low is None


def test_feed_forward_width_is_the_ladders_usual_multiple():
    ladder = tuple(LadderShape(**{**vars(shape), "ffn_width": 4 * shape.width}) for shape in LADDER)
    found = predict_shape(ladder, 1e7)
    assert found.ffn_width == 4 * found.width
    assert predict_shape(LADDER, 1e7).ffn_width is None


def test_the_joint_law_gives_the_settings_where_it_is_preferred():
    rows = [{"law": "joint", "preferred": True}, {"law": "hyperparameters", "preferred": False}]
    other = [{**row, "preferred": not row["preferred"]} for row in rows]
    joint = law("joint", {"learning_rate.coefficient": 1e-3}, tables={"held_out_regret": rows})
    apart = law("joint", {"learning_rate.coefficient": 1e-3}, tables={"held_out_regret": other})
    assert settings_law({**LAWS, "joint": joint}).name == "joint"
    assert settings_law({**LAWS, "joint": apart}).name == "hyperparameters"
    assert settings_law({"joint": apart}).name == "joint"
    failed = FittedLaw(**{**vars(joint), "status": Status.FAILED})
    assert settings_law({**LAWS, "joint": failed}).name == "hyperparameters"
    assert settings_law({}) is None


def test_a_half_life_without_a_batch_is_said():
    lone = law("hyperparameters", {"learning_rate.coefficient": 1e-3, "beta2_half_life.coefficient": 5e4})
    found = predict({"hyperparameters": lone}, Context(), params=1e7, tokens=1e9)
    assert "beta2" not in found.quantities
    assert any("take 2^(-batch_tokens / 5e+04)" in word for word in found.warnings)


def test_intervals_are_as_wide_as_the_laws_own():
    draws = CHINCHILLA.draws["E"]
    low, high = np.quantile(draws, [0.025, 0.975])
    own = Estimate(value=1.8, low=1.8 - 2 * (1.8 - low), high=1.8 + 2 * (high - 1.8))
    widened = FittedLaw(**{**vars(CHINCHILLA), "parameters": {**CHINCHILLA.parameters, "E": own}})
    assert widening_of(CHINCHILLA) == 1.0
    assert widening_of(widened) == pytest.approx(2.0)
    narrow, wide = (predict({"chinchilla": each}, Context(), params=1e7, tokens=2e8) for each in (CHINCHILLA, widened))
    spans = [np.log(found.quantities["loss"].high / found.quantities["loss"].low) for found in (narrow, wide)]
    assert spans[1] == pytest.approx(2 * spans[0], rel=1e-6)


def test_no_ladder_no_shape():
    assert predict_shape((), 1e6) is None
    assert "width" not in predict(LAWS, Context(), params=1e7, tokens=2e8).quantities
