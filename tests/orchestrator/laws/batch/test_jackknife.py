import numpy as np
import pytest
from scipy import stats

from orchestrator.laws.jackknife import MOST_GROUPS, jackknife_draws, left_out_weights


def test_draws_of_a_mean_spread_as_students_t():
    sample = np.random.default_rng(0).standard_normal(12)
    weights = left_out_weights(np.arange(12), 12)
    left_out = (weights @ sample / weights.sum(axis=1))[:, None]
    draws = jackknife_draws(np.array([sample.mean()]), left_out, dof=11, draws=40_000, seed=1)[:, 0]
    low, high = stats.t.interval(0.95, 11, loc=sample.mean(), scale=stats.sem(sample))
    assert np.quantile(draws, [0.025, 0.975]) == pytest.approx([low, high], abs=0.02)


def test_each_group_leaves_out_its_units_and_every_unit_is_left_out_once():
    units = np.repeat(np.arange(100), 3)
    weights = left_out_weights(units, 100)
    assert weights.shape == (MOST_GROUPS, 300)
    assert (weights == 0).sum(axis=0) == pytest.approx(1)
    assert (weights[:, 0] == weights[:, 2]).all()


def test_points_of_some_units_are_left_out_with_the_same_groups():
    few = np.array([4, 7])
    assert (left_out_weights(few, 10) == left_out_weights(np.arange(10), 10)[:, few]).all()
