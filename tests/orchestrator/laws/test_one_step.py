import numpy as np

from orchestrator.laws.curve_fit import Curve, CurveFit
from orchestrator.laws.loss_points import replicate_weights
from orchestrator.laws.newton import Samples
from orchestrator.laws.one_step import one_step

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, 2000)
UNIT = np.repeat(np.arange(100), 20)


def curved():
    """log y = a + b x + log(1 + e^(c x)), with noise that a unit shares."""

    def formula(theta):
        a, b, c = (theta[:, [at]] for at in range(3))
        return a + b * X + np.logaddexp(0, c * X)

    exact = formula(np.array([[1.0, -0.5, 0.8]]))[0]
    noise = 0.003 * (RNG.standard_normal(100)[UNIT] + RNG.standard_normal(2000))
    curve = Curve(formula=formula, log_values=exact + noise, lower=np.array([-9.0] * 3), upper=np.array([9.0] * 3))
    return CurveFit(curve, np.array([[0.0, 0.0, 0.5], [0.5, -1.0, 1.0]]))


def test_one_step_spreads_and_moves_as_full_fits_do():
    fit = curved()
    weights = replicate_weights(range(100), 200, 0)
    steps = one_step(fit, UNIT, weights).theta
    full = fit.refit(Samples.weighted(weights[:, UNIT])).theta
    ratio = steps.std(axis=0) / full.std(axis=0)
    assert (ratio > 0.85).all()
    assert (ratio < 1.2).all()
    for at in range(3):
        assert np.corrcoef(steps[:, at], full[:, at])[0, 1] > 0.95


def test_equal_weights_move_nothing_and_bounds_hold():
    fit = curved()
    assert np.abs(one_step(fit, UNIT, np.ones((1, 100))).theta - fit.best.theta).max() < 1e-6
    fit.curve.upper[:] = fit.best.theta[0]
    found = one_step(fit, UNIT, replicate_weights(range(100), 50, 0))
    assert (found.theta <= fit.curve.upper).all()
    assert found.at_bound.any()
