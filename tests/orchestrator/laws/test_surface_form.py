"""The surface's slopes are those of the surface."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.laws.surface_form import Observations, jacobian_of, pooled_size, predicted_excess, warp

STEP = 1e-5
# Differences are too coarse where a tiny skew times an offset leaves few digits of the exponential's rest.
SKEWS = st.one_of(st.floats(-2, -0.05), st.floats(0.05, 2), st.sampled_from([0.0, 1.5e-127, 1e-9, -1e-6]))


def observed(rng, *, runs=40, cells=3, k=3):
    return Observations(
        coordinates=rng.uniform(-3, 3, size=(runs, k)),
        log_loss=np.zeros(runs),
        cell=np.arange(runs) % cells,
        run=np.arange(runs),
        stretch=rng.uniform(0.5, 2, size=runs),
    )


@pytest.mark.parametrize("k", [1, 2, 3])
@given(skew=SKEWS, seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_the_jacobian_is_the_derivative_of_the_predicted_log_loss(k, skew, seed):
    rng = np.random.default_rng(seed)
    data = observed(rng, k=k)
    theta = rng.uniform(-1, 1, size=data.cells * (1 + k) + pooled_size(k))
    theta[-1] = skew
    scale = rng.uniform(0.5, 2, size=40)
    found = jacobian_of(data, theta, scale).toarray()
    for column in range(theta.size):
        above, below = (theta + side * STEP * (np.arange(theta.size) == column) for side in (1, -1))
        change = above[data.cell] + predicted_excess(data, above) - below[data.cell] - predicted_excess(data, below)
        assert found[:, column] == pytest.approx(scale * change / (2 * STEP), rel=1e-4, abs=1e-4)


def test_the_warp_is_the_offset_to_first_order_and_its_square_the_exponential():
    offset = np.linspace(-4, 4, 81)
    assert warp(offset, 0.0) == pytest.approx(offset)
    for skew in (-0.7, 1e-4, 0.7):
        place = skew * offset
        expected = np.sign(offset) * np.sqrt(2 * np.maximum(np.expm1(place) - place, 0)) / abs(skew)
        assert warp(offset, skew) == pytest.approx(expected, abs=2e-4)
