"""Step Law's published grid: settings from laws of the smaller cells must be nearly the best in the larger ones."""

import numpy as np
import pytest
from searching.step_law import TABLE, read_step_law
from step_law_held_out import fitted_laws, regrets, rules


@pytest.fixture(scope="module")
def surface():
    if not TABLE.exists():
        pytest.skip(f"the published table is not here: {TABLE.name}")
    return read_step_law()


def test_held_out_regret_is_a_fraction_of_the_published_ways(surface):
    found = {name: float(np.mean(regrets(surface, rule))) for name, rule in rules(surface).items()}
    (choice,) = [name for name in found if name.startswith("the tool's choice")]
    assert found[choice] <= 0.0006
    assert 0.0009 < found["Step Law's way"] < 0.0022
    assert found["two stages, quadratic"] > found[choice]


def test_exponents_are_near_the_published_ones(surface):
    law = fitted_laws(surface)["hyperparameters"]
    assert law.value("learning_rate.params_exponent") == pytest.approx(-0.713, abs=0.1)
    assert law.value("learning_rate.tokens_exponent") == pytest.approx(0.307, abs=0.06)
    assert law.value("batch_tokens.tokens_exponent") == pytest.approx(0.571, abs=0.1)
