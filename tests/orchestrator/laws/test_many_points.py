"""What laws do with more points than they need: fewer points, the same law."""

from collections import Counter

import numpy as np
import pytest

from orchestrator.laws import chinchilla
from orchestrator.laws.loss_points import MOST_POINTS, loss_points
from orchestrator.laws.newton import Samples
from orchestrator.laws.powers_objective import BLOCK_ELEMENTS
from orchestrator.laws.records import RunRecord
from orchestrator.laws.varpro import MOST_GRID_POINTS, SumOfPowers, VariableProjection

PLANTED = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


def problem(points, noise=0.003, seed=0):
    rng = np.random.default_rng(seed)
    params = np.exp(rng.uniform(np.log(2e6), np.log(1e9), points))
    tokens = params * np.exp(rng.uniform(np.log(4), np.log(160), points))
    loss = chinchilla.loss(PLANTED, params, tokens) * np.exp(noise * rng.standard_normal(points))
    return SumOfPowers(quantities=np.stack([params, tokens]), loss=loss, shared=(0, 1))


def curves(runs, points):
    return [
        RunRecord(run_id=f"{run:04d}", params=1e6 + run, tokens=1e7 * (k + 1), loss=3.0 - 0.01 * k, schedule="constant")
        for run in range(runs)
        for k in range(points)
    ]


def test_points_of_too_many_runs_are_fewer_of_each_and_have_every_end():
    points = loss_points(curves(runs=1500, points=20), law="test")
    counts = Counter(points.units)
    assert len(counts) == 1500
    assert MOST_POINTS / 2 < len(points.loss) <= MOST_POINTS
    assert max(counts.values()) - min(counts.values()) <= 1
    assert (points.tokens == 2e8).sum() == 1500


def test_points_of_few_runs_are_all_used():
    assert len(loss_points(curves(runs=100, points=20), law="test").loss) == 2000


def test_a_table_beyond_the_grids_points_is_fitted_as_well():
    fit = VariableProjection(problem(3 * MOST_GRID_POINTS))
    truth = np.array([PLANTED["E"], PLANTED["alpha"], PLANTED["beta"]])
    found = np.array([fit.best.offset[0], *fit.best.exponents[0]])
    assert found == pytest.approx(truth, rel=0.01)
    gradient = fit.objective.derivatives(
        fit._theta[None], Samples.weighted(np.ones((1, 3 * MOST_GRID_POINTS)))
    ).gradient
    assert np.abs(gradient).max() < 1e-6


def test_rows_in_many_blocks_are_what_they_are_one_by_one():
    fit = VariableProjection(problem(60))
    rows = 3 * BLOCK_ELEMENTS // 60 + 1
    rng = np.random.default_rng(0)
    theta = fit._theta + 0.01 * rng.standard_normal((rows, fit._theta.size))
    samples = Samples.weighted(rng.dirichlet(np.ones(60), size=rows))
    together = fit.objective.derivatives(theta, samples)
    for row in (0, 1, rows // 2, rows - 1):
        alone = fit.objective.derivatives(theta[[row]], samples[[row]])
        assert together.value[row] == pytest.approx(alone.value[0], rel=1e-12)
        assert together.gradient[row] == pytest.approx(alone.gradient[0], abs=1e-15)
        assert together.hessian[row] == pytest.approx(alone.hessian[0], abs=1e-13)
    assert fit.objective.value(theta, samples) == pytest.approx(together.value, rel=1e-12)


def test_the_tangent_touches_the_objective():
    fit = VariableProjection(problem(60))
    samples = Samples.weighted(np.random.default_rng(0).dirichlet(np.ones(60), size=3))
    at = np.broadcast_to(fit._theta, (3, fit._theta.size))
    own, tangent = (what.derivatives(at, samples) for what in (fit.objective, fit.objective.tangent(fit._theta)))
    assert tangent.value == pytest.approx(own.value, rel=1e-12)
    assert tangent.gradient == pytest.approx(own.gradient, abs=1e-15)
    assert tangent.bound == pytest.approx(own.bound, abs=1e-13)


def test_replicates_are_where_a_fit_of_their_own_is():
    whole = problem(60, noise=0.01)
    weights = np.random.default_rng(1).multinomial(60, np.full(60, 1 / 60), size=8)
    refitted = VariableProjection(whole).refit(Samples.weighted(weights))
    for counts, value in zip(weights, refitted.objective, strict=True):
        chosen = np.repeat(np.arange(60), counts)
        own = SumOfPowers(quantities=whole.quantities[:, chosen], loss=whole.loss[chosen], shared=(0, 1))
        assert value <= VariableProjection(own).best.objective[0] + 1e-9


def test_the_tangent_is_not_followed_to_where_a_term_is_none():
    fit = VariableProjection(problem(60))
    tangent = fit.objective.tangent(fit._theta)
    far = np.array([tangent.lower, tangent.upper])
    parts = fit.objective.x[:, None] * (far[:, 3:] - fit._theta[3:]).T[:, :, None]
    assert np.abs(far[:, :3] - fit._theta[:3]).max() < 0.5
    assert np.abs(parts).max() < 0.5
