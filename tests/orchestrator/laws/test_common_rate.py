import numpy as np
import pytest

from orchestrator.laws.common_rate import CommonRate, CommonRateFit, central_spread

RATE, COEFFICIENTS = 0.7, np.array([2.0, 1.5, 0.8])


def problem(seed, *, noise=0.01, points=4, units=10, outlier=1.0):
    rng = np.random.default_rng(seed)
    x = np.random.default_rng(42).uniform(-2, 2, (2, points * units))
    unit = np.repeat(np.arange(units), points)
    values = COEFFICIENTS[0] + COEFFICIENTS[1:] @ np.exp(-RATE * x)
    values = values + noise * (rng.standard_normal(units)[unit] + 0.3 * rng.standard_normal(x.shape[1]))
    return CommonRate(exponents=x, values=values, units=tuple(unit), signs=(1, 1), rates=(0.01, 5.0), outlier=outlier)


def test_exact_values_give_back_rate_and_coefficients():
    best = CommonRateFit(problem(0, noise=0.0)).best
    assert best.rate[0] == pytest.approx(RATE, rel=1e-6)
    assert best.coefficients[0] == pytest.approx(COEFFICIENTS, rel=1e-5)


def test_no_other_rate_or_coefficient_leaves_fewer_squares():
    given = problem(1)
    fit = CommonRateFit(given)
    for scale in (0.999, 1.001):
        for at in range(4):
            moved = np.concatenate([fit.best.coefficients[0], fit.best.rate])
            moved[at] *= scale
            predicted = moved[0] + moved[1:3] @ np.exp(-moved[3] * given.exponents)
            assert ((given.values - predicted) ** 2).sum() > (fit.residuals**2).sum()


def test_replicates_spread_as_fits_of_fresh_data_do():
    replicates = CommonRateFit(problem(0)).replicates(400, 0, dof=1e6)
    fresh = np.array([CommonRateFit(problem(seed)).best.rate[0] for seed in range(60)])
    assert 0.6 < central_spread(replicates.rate) / fresh.std() < 1.5


def test_replicates_lie_at_the_minimum_of_their_own_values():
    """Exact values leave no residuals: every replicate is then the fit itself, found by the two grids alone."""
    fit = CommonRateFit(problem(2, noise=1e-9))
    replicates = fit.replicates(5, 0, dof=10)
    assert replicates.rate == pytest.approx(np.full(5, RATE), rel=1e-4)
    assert replicates.coefficients == pytest.approx(np.tile(COEFFICIENTS, (5, 1)), rel=1e-3)


def test_a_negative_sign_is_a_falling_term():
    x = np.linspace(0, 4, 12)[None]
    given = CommonRate(
        exponents=x,
        values=0.9 - 0.5 * np.exp(-0.8 * x[0]),
        units=range(12),
        signs=(-1,),
        rates=(0.02, 20.0),
        outlier=1.0,
    )
    best = CommonRateFit(given).best
    assert (best.rate[0], *best.coefficients[0]) == pytest.approx((0.8, 0.9, 0.5), rel=1e-5)
    rising = CommonRate(**{**given.__dict__, "signs": (1,)})
    assert CommonRateFit(rising).best.absent[0, 1]


def test_a_far_point_counts_by_its_distance():
    given = problem(3, outlier=0.05)
    values = given.values.copy()
    values[7] += 3.0
    spoilt = CommonRate(**{**given.__dict__, "values": values})
    squared = CommonRate(**{**given.__dict__, "values": values, "outlier": 100.0})
    own = CommonRateFit(given).best.rate[0]
    assert abs(CommonRateFit(spoilt).best.rate[0] - own) < abs(CommonRateFit(squared).best.rate[0] - own) / 3
