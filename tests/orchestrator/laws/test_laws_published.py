import math

import pytest

from orchestrator.laws.published import ALLOCATIONS, published_rules
from search_spaces.errors import InputError


def rule(name, *, params=1.08e8, tokens=2.16e9):
    return next(each.settings for each in published_rules(params, tokens, 2048) if each.name == name)


def test_rules_give_the_values_that_their_papers_print():
    assert rule("Kaplan", params=1e8)["learning_rate"] == pytest.approx(6.69e-4, rel=1e-2)
    assert rule("Porian")["learning_rate"] == pytest.approx(0.0047, rel=0.02)
    assert rule("Porian")["batch_tokens"] / 2048 == pytest.approx(160, rel=0.04)
    assert rule("Porian", params=4.55e8)["beta2"] == 0.95
    deepseek = rule("DeepSeek", params=1e9, tokens=1e20 / 6e9)
    assert deepseek["learning_rate"] == pytest.approx(9.86e-4, rel=5e-3)
    assert deepseek["batch_tokens"] == pytest.approx(1.02e6, rel=5e-3)
    step = rule("Step Law", params=2.147e8, tokens=4e9)
    assert step["batch_tokens"] == pytest.approx(0.58 * 4e9**0.571)
    assert 5e-4 < step["learning_rate"] < 5e-3
    assert rule("Power Lines", params=1e9, tokens=2e10)["timescale"] == pytest.approx(0.224, abs=1e-3)


@pytest.mark.parametrize(("params", "tokens"), [(1e6, 2e7), (3e8, 6e9), (7e9, 1e12)])
def test_marins_recipe_keeps_its_bounds(params, tokens):
    settings = rule("Marin", params=params, tokens=tokens)
    batch = settings["batch_tokens"] / 2048
    assert settings["learning_rate"] <= 0.01
    assert math.log2(batch) == int(math.log2(batch))
    assert settings["beta2"] == pytest.approx(0.98 ** (batch / 128))


def test_allocations_pass_through_their_anchors():
    by_name = {each.name: each for each in ALLOCATIONS}
    assert by_name["Kaplan"].params(8.64e19) == pytest.approx(1.3e9)
    assert by_name["Hoffmann"].params(120.0) == pytest.approx(1.0)


def test_every_rule_names_its_source_and_validity():
    assert all(each.source and each.validity and each.settings for each in published_rules(1e8, 2e9, 1024))


def test_a_size_must_be_positive():
    with pytest.raises(InputError, match="tokens is -1; it must be a positive"):
        published_rules(1e8, -1, 2048)
