"""Kaplan's consequences against his own numbers, and against what they follow from."""

import numpy as np
import pytest

from orchestrator.laws import kaplan_consequences as consequences
from orchestrator.laws import kaplan_nd

PF_DAY = 8.64e19  # FLOP
# Kaplan et al. 2020, tables 3 and 5 (compute), table 2 (overfitting).
COMPUTE = {"alpha_N": 0.077, "alpha_S": 0.76, "N_c": 6.5e13, "S_c": 2.1e3, "alpha_B": 0.21, "B_star": 2.1e8}
OVERFIT = {"alpha_N": 0.076, "alpha_D": 0.103, "N_c": 6.4e13, "D_c": 1.8e13}
BUDGETS = np.geomspace(1e18, 1e24, 7)


def loss_of_steps(params, steps):
    """L(N, S_min) of equation 1.6."""
    return (COMPUTE["N_c"] / params) ** COMPUTE["alpha_N"] + (COMPUTE["S_c"] / steps) ** COMPUTE["alpha_S"]


def test_the_frontier_has_the_reference_values():
    assert consequences.compute_exponent(COMPUTE) == pytest.approx(0.05245, abs=5e-6)
    assert consequences.compute_constant(COMPUTE) / PF_DAY == pytest.approx(1.61e8, rel=0.005)
    assert consequences.optimal_params(COMPUTE, PF_DAY) == pytest.approx(5.8e8, rel=0.01)
    assert consequences.optimal_steps(COMPUTE, PF_DAY) == pytest.approx(1.32e4, rel=0.005)
    assert consequences.optimal_batch_tokens(COMPUTE, PF_DAY) == pytest.approx(1.87e6, rel=0.005)
    assert consequences.optimal_loss(COMPUTE, PF_DAY) == pytest.approx(2.694, abs=0.001)


def test_params_batch_and_steps_spend_the_compute():
    spent = consequences.optimal_params(COMPUTE, BUDGETS) * consequences.optimal_steps(COMPUTE, BUDGETS)
    assert 6 * spent * consequences.optimal_batch_tokens(COMPUTE, BUDGETS) == pytest.approx(BUDGETS)
    tokens = consequences.optimal_batch_tokens(COMPUTE, BUDGETS) * consequences.optimal_steps(COMPUTE, BUDGETS)
    assert consequences.optimal_tokens(COMPUTE, BUDGETS) == pytest.approx(2 * tokens)


def test_the_optimal_loss_is_that_of_its_size_and_steps():
    params, steps = consequences.optimal_params(COMPUTE, BUDGETS), consequences.optimal_steps(COMPUTE, BUDGETS)
    assert consequences.optimal_loss(COMPUTE, BUDGETS) == pytest.approx(loss_of_steps(params, steps))
    assert consequences.efficient_stop_loss(COMPUTE, params) == pytest.approx(loss_of_steps(params, steps))


def test_no_other_size_reaches_the_loss_with_less_compute():
    params, loss = consequences.optimal_params(COMPUTE, BUDGETS), consequences.optimal_loss(COMPUTE, BUDGETS)
    assert consequences.flops_to_reach(COMPUTE, params, loss) == pytest.approx(BUDGETS)
    for factor in (0.5, 0.9, 1.1, 2.0):
        cost = consequences.flops_to_reach(COMPUTE, params * factor, loss)
        assert (cost > BUDGETS).all()
        assert consequences.wrong_size(COMPUTE, factor).flops == pytest.approx(cost / BUDGETS)


def test_a_size_that_never_gets_there_costs_without_end():
    assert consequences.flops_to_reach(COMPUTE, 1e6, 2.0) == np.inf
    assert consequences.wrong_size(COMPUTE, 0.01).flops == np.inf


def test_sizes_from_a_factor_of_0_6_to_2_2_cost_at_most_20_percent_more():
    cost = consequences.wrong_size(COMPUTE, np.array([0.6, 1.0, 2.2]))
    assert cost.flops[1] == pytest.approx(1.0)
    assert (cost.flops <= 1.21).all()
    assert cost.steps[-1] == pytest.approx(0.55, abs=0.01)


def test_stopping_early_beats_convergence_as_published():
    ratios = consequences.against_convergence(COMPUTE, 0.02)
    assert ratios.params == pytest.approx(2.7, abs=0.05)
    assert 1 / ratios.steps == pytest.approx(7.7, abs=0.1)
    assert 1 - ratios.flops == pytest.approx(0.65, abs=0.01)


def test_overfitting_is_the_law_against_infinite_data():
    params, tokens = np.geomspace(1e6, 1e10, 5), 1e9
    limit = kaplan_nd.loss(OVERFIT, params, 1e60)
    expected = kaplan_nd.loss(OVERFIT, params, tokens) / limit - 1
    assert consequences.overfitting(OVERFIT, params, tokens) == pytest.approx(expected, rel=1e-9)


def test_the_data_against_overfitting_are_those_published():
    needed = consequences.tokens_against_overfitting(OVERFIT, 1e9, 0.02)
    assert needed == pytest.approx(5e3 * 1e9**0.74, rel=0.12)
    assert consequences.overfitting(OVERFIT, 1e9, needed) == pytest.approx(0.02)


def test_the_early_stop_is_where_the_loss_of_steps_is_the_loss_of_data():
    both = OVERFIT | {"alpha_S": 0.76, "S_c": 2.1e3}
    steps = consequences.least_steps_before_stop(both, 1e8, 1e9)
    left = (both["S_c"] / steps) ** both["alpha_S"]
    assert left == pytest.approx(kaplan_nd.loss(OVERFIT, 1e8, 1e9) - (6.4e13 / 1e8) ** 0.076)
    assert consequences.least_steps_before_stop(both, 1e8, 1e10) > steps


def test_every_consequence_takes_draws():
    drawn = {name: value * np.array([[0.99], [1.0], [1.01]]) for name, value in (OVERFIT | COMPUTE).items()}
    assert consequences.optimal_params(drawn, BUDGETS).shape == (3, 7)
    assert consequences.flops_to_reach(drawn, BUDGETS / 1e12, 3.0).shape == (3, 7)
    assert consequences.tokens_against_overfitting(drawn, BUDGETS / 1e12, 0.02).shape == (3, 7)
