import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.laws.resample import bootstrap_weights, interval, small_sample_factor, unit_indices


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=20), st.integers(0, 5))
def test_points_of_a_unit_appear_together_and_units_are_drawn_as_often_as_there_are(units, seed):
    weights = bootstrap_weights(units, 7, np.random.default_rng(seed))
    index = unit_indices(units)
    count = index.max() + 1
    per_unit = np.array([weights[:, index == unit][:, 0] for unit in range(count)])
    assert weights.shape == (7, len(units))
    assert np.array_equal(per_unit.T[:, index], weights)
    assert (per_unit.sum(axis=0) == count).all()


def test_the_interval_of_few_means_covers_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        sample = rng.normal(size=6)
        means = bootstrap_weights(range(6), 400, rng) @ sample / 6
        # A resampled mean of n is too narrow by sqrt((n - 1) / n) as well.
        found = interval(
            sample.mean(), sample.mean() + (means - sample.mean()) * np.sqrt(6 / 5), confidence=0.95, dof=5
        )
        covered += found.low <= 0 <= found.high
    assert 0.91 <= covered / 400 <= 0.985


def test_an_interval_without_finite_draws_has_no_bounds():
    found = interval(1.0, np.array([np.nan, np.inf]), confidence=0.95)
    assert (found.value, found.low, found.high) == (1.0, None, None)


def test_the_small_sample_factor_is_students_quantile_over_the_normal_one():
    assert small_sample_factor(2, 0.95) == pytest.approx(4.3027 / 1.95996, rel=1e-4)
    assert small_sample_factor(1e6, 0.95) == pytest.approx(1, rel=1e-4)
