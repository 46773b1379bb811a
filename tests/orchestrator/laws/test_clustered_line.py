"""The line through points of runs: what it finds, what its draws cover, and when it says that points bend."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.laws.clustered_line import clustered_line

NOISE = 0.005


def noisy_line(rng, *, points, runs, shared):
    """A line of height 1 and slope -0.08 with noise of which runs share the part `shared`."""
    x = np.linspace(0, 5, points)
    run = np.arange(points) * runs // points
    luck = np.sqrt(shared) * rng.standard_normal(runs)[run] + np.sqrt(1 - shared) * rng.standard_normal(points)
    return x, 1 - 0.08 * (x - x.mean()) + NOISE * luck, [str(number) for number in run]


def coverage(*, points, runs, shared, sweeps=150):
    held = np.zeros(2)
    for seed in range(sweeps):
        line = clustered_line(*noisy_line(np.random.default_rng(seed), points=points, runs=runs, shared=shared))
        low, high = np.quantile(line.draws(1000, seed), [0.025, 0.975], axis=0)
        held += (low <= [1, -0.08]) & (high >= [1, -0.08])
    return held / sweeps


@pytest.mark.parametrize("points", [4, 6, 12])
def test_draws_of_few_independent_points_cover_the_line(points):
    assert (coverage(points=points, runs=points, shared=0.0) >= 0.89).all()


@pytest.mark.parametrize("runs", [4, 8])
def test_draws_cover_the_line_where_points_share_runs(runs):
    assert (coverage(points=6 * runs, runs=runs, shared=0.9, sweeps=80) >= 0.88).all()


def test_taking_the_points_of_runs_for_independent_would_not_cover_it():
    rng = np.random.default_rng(0)
    x, y, runs = noisy_line(rng, points=48, runs=8, shared=0.9)
    together, apart = clustered_line(x, y, runs), clustered_line(x, y, [str(at) for at in range(48)])
    assert together.covariance[1, 1] > 2 * apart.covariance[1, 1]


def test_one_bad_point_moves_the_line_by_less_than_its_error():
    x, y, runs = noisy_line(np.random.default_rng(0), points=15, runs=15, shared=0.0)
    spoiled = y.copy()
    spoiled[-1] += 20 * NOISE
    good, bad = clustered_line(x, y, runs), clustered_line(x, spoiled, runs)
    plain = np.polyfit(x, spoiled, 1)[0]
    moved = abs(bad.coefficients[1] - good.coefficients[1])
    assert moved < 2 * np.sqrt(good.covariance[1, 1])
    assert moved < 0.25 * abs(plain - good.coefficients[1])


@given(slope=st.floats(-2, 2), height=st.floats(-3, 3), shift=st.floats(-50, 50))
@example(slope=1.0, height=1.175494351e-38, shift=14.0)  # all but one point fit to the last bit
@settings(max_examples=25, deadline=None)
def test_points_on_a_line_give_the_line(slope, height, shift):
    x = shift + np.linspace(0, 4, 7)
    line = clustered_line(x, height + slope * (x - x.mean()), list("abcdefg"))
    assert line.coefficients == pytest.approx([height, slope], abs=1e-9)
    assert line.bend is None or not line.bend.matters


def test_a_bend_is_seen_and_a_straight_line_is_not_called_bent():
    x = np.linspace(0, 5, 9)
    noise = 0.001 * np.random.default_rng(0).standard_normal(9)
    assert clustered_line(x, 0.01 * (x - 2.5) ** 2 + noise, list("abcdefghi")).bend.matters
    bent = [
        clustered_line(*noisy_line(np.random.default_rng(seed), points=9, runs=9, shared=0.0)).bend.matters
        for seed in range(200)
    ]
    assert np.mean(bent) <= 0.04


def test_three_points_give_a_line_without_a_verdict_on_its_bend():
    line = clustered_line(np.array([0.0, 1.0, 2.0]), np.array([1.0, 0.8, 0.7]), ["a", "b", "c"])
    assert line.bend is None
    assert np.isfinite(line.draws(50, 0)).all()
