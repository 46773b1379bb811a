"""Degrees of freedom of few runs: those known in closed form, and fewer where some runs decide alone."""

import numpy as np
import pytest

from orchestrator.laws.cluster_degrees import cluster_degrees


def of_mean_and_slope(x, *, points, within, seed=0):
    """For runs at these x, each of so many points, whose noise is shared but for `within`."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(len(x)), points)
    residuals = rng.standard_normal(len(x))[unit] + within * rng.standard_normal(len(unit))
    return cluster_degrees(np.stack([np.ones(len(unit)), x[unit]], axis=1), residuals, unit)


@pytest.mark.parametrize("runs", [4, 9])
def test_a_mean_of_equal_runs_has_one_degree_less_than_runs(runs):
    unit = np.repeat(np.arange(runs), 5)
    residuals = np.random.default_rng(0).standard_normal(runs)[unit]
    assert cluster_degrees(np.ones((5 * runs, 1)), residuals, unit) == pytest.approx([runs - 1])


def simulated_degrees(x):
    """Satterthwaite's, 2 mean^2 / variance, of the HC2 variance of a slope: runs that share all noise are points."""
    design = np.stack([np.ones(len(x)), x], axis=1)
    inverse = np.linalg.pinv(design)
    left = np.eye(len(x)) - design @ inverse
    residuals = np.random.default_rng(1).standard_normal((100_000, len(x))) @ left
    variances = (inverse[1] ** 2 * residuals**2 / np.diag(left)).sum(axis=1)
    return 2 * variances.mean() ** 2 / variances.var()


@pytest.mark.parametrize("x", [np.linspace(0, 1, 10), np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.5])])
def test_the_slope_has_the_degrees_of_its_simulated_variance(x):
    assert of_mean_and_slope(x, points=6, within=0.0)[1] == pytest.approx(simulated_degrees(x), rel=0.03)
    assert simulated_degrees(x) < len(x) - 3


def test_the_unit_of_a_parameter_does_not_matter():
    x = np.linspace(0, 1, 8)
    assert of_mean_and_slope(x, points=4, within=0.2)[1] == pytest.approx(
        of_mean_and_slope(1e9 * x, points=4, within=0.2)[1]
    )
