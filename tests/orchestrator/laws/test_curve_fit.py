import numpy as np
import pytest

from orchestrator.laws.curve_fit import Curve, CurveFit
from orchestrator.laws.newton import HUBER_DELTA, Samples

PLANTED = np.array([12.0, 8.0, 0.76, 0.1])


def saturating(seed, noise=0.005):
    """log L = d log(e^(p - r x) + e^(q - y)), which is no sum of powers in log L."""
    rng = np.random.default_rng(seed)
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(-3, 3, 8), np.linspace(-4, 4, 8)))

    def formula(theta):
        p, q, r, d = (theta[:, [at]] for at in range(4))
        return d * np.logaddexp(p - r * x, q - y)

    log_values = formula(PLANTED[None])[0] + noise * rng.standard_normal(x.size)
    lower, upper = np.array([-50.0, -50.0, 0.01, 0.005]), np.array([80.0, 80.0, 5.0, 3.0])
    return Curve(formula=formula, log_values=log_values, lower=lower, upper=upper)


def grid():
    axes = np.linspace(0, 30, 7), np.linspace(0, 30, 7), np.linspace(0.1, 2, 5), np.geomspace(0.02, 1, 5)
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 4)


def test_planted_parameters_are_found_from_a_grid_that_does_not_hold_them():
    exact = CurveFit(saturating(0, noise=0.0), grid()).best
    assert exact.theta[0] == pytest.approx(PLANTED, rel=1e-5)
    assert exact.objective[0] < 1e-12
    assert not exact.at_bound.any()


def test_replicates_spread_as_refits_of_fresh_data_do():
    fit = CurveFit(saturating(0), grid())
    rng = np.random.default_rng(1)
    replicates = fit.refit(Samples.weighted(rng.multinomial(64, np.full(64, 1 / 64), size=300).astype(float)))
    fresh = np.array([CurveFit(saturating(seed), fit.best.theta).best.theta[0] for seed in range(60)])
    ratio = replicates.theta.std(axis=0) / fresh.std(axis=0)
    assert (ratio > 0.6).all() and (ratio < 1.6).all()


def test_slopes_are_those_of_the_formula():
    curve = saturating(0)
    theta = PLANTED[None] + 0.1
    step = 1e-4
    for at, slope in enumerate(curve.slopes(theta)[0]):
        moved = theta + step * np.eye(4)[[at]]
        assert slope == pytest.approx((curve.formula(moved)[0] - curve.formula(theta)[0]) / step, abs=2e-3)


def test_one_wild_point_moves_nothing():
    curve = saturating(0, noise=HUBER_DELTA / 10)
    spoilt = Curve(
        formula=curve.formula,
        log_values=curve.log_values + np.where(np.arange(64) == 7, 2.0, 0.0),
        lower=curve.lower,
        upper=curve.upper,
    )
    moved = CurveFit(spoilt, grid()).best.theta - CurveFit(curve, grid()).best.theta
    assert np.abs(moved / PLANTED).max() < 0.02
