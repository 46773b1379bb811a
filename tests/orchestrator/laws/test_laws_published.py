import math

import pytest

from orchestrator.laws.published import ALLOCATIONS, published_rules, weight_decay
from search_spaces.errors import InputError


def rule(name, *, params=1.08e8, tokens=2.16e9, **more):
    return next(each.settings for each in published_rules(params, tokens, **more) if each.name == name)


@pytest.mark.parametrize(("params", "rate"), [(1e6, 1.312e-3), (1e7, 9.91e-4), (1e8, 6.69e-4), (1e9, 3.48e-4)])
def test_kaplans_learning_rate(params, rate):
    assert rule("Kaplan", params=params)["learning_rate"] == pytest.approx(rate, rel=2e-3)


def test_kaplans_learning_rate_is_not_given_where_it_breaks_and_would_turn_negative():
    assert "learning_rate" not in rule("Kaplan", params=7e10, tokens=1.4e12)


def test_kaplans_batch_is_two_million_tokens_at_a_petaflop_day():
    assert rule("Kaplan", params=1e9, tokens=8.64e19 / 6e9)["batch_tokens"] == pytest.approx(2.0e6)


@pytest.mark.parametrize(
    ("params", "rate", "batch", "beta2"),
    [
        (5.17e6, 0.0142, 19, 0.99),
        (22.5e6, 0.0083, 54, 0.99),
        (57.4e6, 0.0060, 105, 0.99),
        (108e6, 0.0047, 164, 0.99),
        (221e6, 0.0037, 272, 0.99),
        (455e6, 0.0028, 452, 0.95),
        (902e6, 0.0022, 731, 0.95),
    ],
)
def test_porian(params, rate, batch, beta2):
    settings = rule("Porian", params=params)
    assert settings["learning_rate"] == pytest.approx(rate, rel=0.02)
    assert settings["batch_tokens"] / 2048 == pytest.approx(batch, rel=0.04)
    assert settings["beta2"] == beta2


def test_porians_batch_in_tokens_is_the_one_that_step_law_quotes():
    assert rule("Porian", params=1e8)["batch_tokens"] == pytest.approx(0.7576 * 1e8**0.703, rel=1e-3)


def test_deepseek_at_1e20_flop():
    settings = rule("DeepSeek", params=1e9, tokens=1e20 / 6e9)
    assert settings["learning_rate"] == pytest.approx(9.86e-4, rel=2e-3)
    assert settings["batch_tokens"] == pytest.approx(1.02e6, rel=5e-3)


def test_step_law_near_the_measured_optima_of_its_table():
    small = rule("Step Law", params=214.7e6, tokens=4e9)
    large = rule("Step Law", params=1.07e9, tokens=5.69e10)
    for settings, rate, batch in ((small, 2.76e-3, 128), (large, 1.38e-3, 256)):
        assert abs(math.log2(settings["learning_rate"] / rate)) < 1
        assert abs(math.log2(settings["batch_tokens"] / 2048 / batch)) < 1.1
    assert small["batch_tokens"] == pytest.approx(0.58 * 4e9**0.571)
    assert small["learning_rate"] == pytest.approx(1.79 * 214.7e6**-0.713 * 4e9**0.307)


def test_bjorck_at_its_anchor():
    assert rule("Bjorck", params=1e9, tokens=1e9)["learning_rate"] == pytest.approx(1.55e-3)


def test_power_lines_timescale_and_the_weight_decay_that_it_means():
    timescale = rule("Power Lines", params=1e9, tokens=2e10)["timescale"]
    assert timescale == pytest.approx(0.224, abs=1e-3)
    decay = weight_decay(timescale, learning_rate=3e-3, batch_tokens=2**19, tokens=2e10)
    assert decay == pytest.approx(0.039, abs=5e-4)


@pytest.mark.parametrize(("params", "tokens"), [(1e6, 2e7), (3e8, 6e9), (7e9, 1e12)])
def test_marins_recipe_keeps_its_bounds(params, tokens):
    settings = rule("Marin", params=params, tokens=tokens)
    batch = settings["batch_tokens"] / 4096
    assert settings["learning_rate"] <= 0.01
    assert math.log2(batch) == int(math.log2(batch))
    assert settings["beta2"] == pytest.approx(0.98 ** (batch / 128))
    assert batch == 1 or tokens / settings["batch_tokens"] <= 2**16


def test_marins_learning_rate_is_that_of_the_width():
    """Width 1024: 1024 / (64 + 4 * 10 - 9) = 10.8 layers of 16 * 1024^2 parameters."""
    params = 16 * 1024**2 * 1024 / 95
    settings = rule("Marin", params=params, tokens=2.0**16 * 4096 * 64)
    assert settings["batch_tokens"] == 64 * 4096
    assert settings["learning_rate"] == pytest.approx(0.33 * 8 / 1024, rel=1e-3)


def test_rules_for_params_without_embeddings_take_them_where_they_are_known():
    for name in ("Kaplan", "DeepSeek", "Step Law", "Marin"):
        known = rule(name, params=1e8, tokens=1e10, non_embedding_params=5e7)
        assert known == rule(name, params=5e7, tokens=1e10)
    for name in ("Porian", "Bjorck", "Power Lines"):
        assert rule(name, params=1e8, tokens=1e10, non_embedding_params=5e7) == rule(name, params=1e8, tokens=1e10)


def test_allocations_pass_through_what_their_papers_print():
    by_name = {each.name: each for each in ALLOCATIONS}
    assert by_name["Kaplan"].params(8.64e19) == pytest.approx(1.3e9)
    assert by_name["Kaplan, fixed batch"].params(8.64e19) == pytest.approx(1.6e9)
    assert by_name["Hoffmann"].params(120.0) == pytest.approx(1.0)
    assert by_name["Hoffmann"].params(5.76e23) == pytest.approx(70e9, rel=0.02)
    assert by_name["Besiroglu"].params(5.76e23) == pytest.approx(72.2e9, rel=5e-3)
    assert by_name["Porian"].params(5.88e23) == pytest.approx(76.9e9)
    assert by_name["Porian"].params(2.56e19) == pytest.approx(5.347e8, rel=0.1)
    deepseek = by_name["DeepSeek"].params(1e20)
    assert 6 * deepseek * 5.8316 * 1e20**0.4757 == pytest.approx(1e20, rel=1e-3)


def test_every_rule_names_its_source_and_validity():
    assert all(each.source and each.validity and each.settings for each in published_rules(1e8, 2e9))


def test_a_size_must_be_positive():
    with pytest.raises(InputError, match="tokens is -1; it must be a positive"):
        published_rules(1e8, -1)
