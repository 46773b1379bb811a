import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.laws.exponent_grid import nonnegative_least_squares
from orchestrator.laws.newton import Samples, polish
from orchestrator.laws.powers_objective import Objective
from orchestrator.laws.varpro import SumOfPowers, VariableProjection


def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "varpro_against_lbfgs.py"
    spec = importlib.util.spec_from_file_location("varpro_against_lbfgs", path)
    module = importlib.util.module_from_spec(spec)
    __import__("sys").modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def objective(rng, shared=(0, 1), points=30):
    exponents = len(set(shared))
    width = 1 + len(shared) + exponents
    return Objective(
        x=rng.standard_normal((len(shared), points)),
        log_loss=0.3 * rng.standard_normal(points),
        shared=shared,
        lower=np.full(width, -20.0),
        upper=np.full(width, 20.0),
    )


@pytest.mark.parametrize("shared", [(0,), (0, 1), (0, 0)])
def test_derivatives_agree_with_differences(shared):
    rng = np.random.default_rng(1)
    problem = objective(rng, shared)
    theta = rng.uniform(0.1, 0.6, size=(1, len(problem.lower)))
    weights = Samples(weights=rng.uniform(0.5, 2, size=(1, 30)), shifts=0.01 * rng.standard_normal((1, 30)))
    here = problem.derivatives(theta, weights)
    step = 1e-7
    for k in range(theta.shape[1]):
        up, down = theta.copy(), theta.copy()
        up[0, k] += step
        down[0, k] -= step
        above, below = problem.derivatives(up, weights), problem.derivatives(down, weights)
        assert here.gradient[0, k] == pytest.approx((above.value - below.value)[0] / (2 * step), abs=1e-7)
        assert here.hessian[0, k] == pytest.approx((above.gradient - below.gradient)[0] / (2 * step), abs=1e-5)


def test_a_descent_never_ends_above_its_start():
    rng = np.random.default_rng(2)
    problem = objective(rng)
    starts, weights = rng.uniform(-1, 1, size=(50, 5)), Samples.weighted(rng.uniform(size=(50, 30)))
    _, values = polish(problem, starts, weights)
    assert (values <= problem.value(starts, weights)).all()


@given(seed=st.integers(0, 10_000), size=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_nonnegative_least_squares_meets_its_optimality_conditions(seed, size):
    rng = np.random.default_rng(seed)
    design, target = rng.uniform(size=(12, size)), rng.standard_normal(12) + 0.5
    gram, moment = design.T @ design, design.T @ target
    found, _ = nonnegative_least_squares(gram, moment)
    slope = gram @ found - moment
    assert (found >= 0).all()
    assert (slope >= -1e-7).all()
    assert np.abs(slope * found).max() < 1e-7


def test_an_exact_law_is_found_to_many_digits():
    params, tokens = np.meshgrid(np.geomspace(1e6, 1e9, 7), np.geomspace(1e8, 1e11, 6))
    loss = 1.8 + 480 * params**-0.35 + 2100 * tokens**-0.37
    quantities = np.stack([params.ravel(), tokens.ravel()])
    best = VariableProjection(SumOfPowers(quantities=quantities, loss=loss.ravel(), shared=(0, 1))).best
    assert best.offset[0] == pytest.approx(1.8, rel=1e-4)
    assert best.coefficients[0] == pytest.approx([480, 2100], rel=1e-3)
    assert best.exponents[0] == pytest.approx([0.35, 0.37], rel=1e-4)


def test_a_pure_power_has_no_offset():
    flops = np.geomspace(1e15, 1e20, 20)
    best = VariableProjection(SumOfPowers(quantities=flops[None], loss=30 * flops**-0.057, shared=(0,))).best
    assert best.offset[0] < 1e-3
    assert best.exponents[0, 0] == pytest.approx(0.057, rel=1e-3)


def test_a_shared_exponent_is_shared():
    params, tokens = np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 1e10, 5))
    loss = 1.5 + 300 * params**-0.3 + 500 * tokens**-0.3
    quantities = np.stack([params.ravel(), tokens.ravel()])
    best = VariableProjection(SumOfPowers(quantities=quantities, loss=loss.ravel(), shared=(0, 0))).best
    assert best.exponents[0, 0] == best.exponents[0, 1] == pytest.approx(0.3, rel=1e-3)


def test_the_order_of_the_points_does_not_matter():
    module = benchmark()
    problem = module.random_problem(np.random.default_rng(3))
    turned = SumOfPowers(quantities=problem.quantities[:, ::-1], loss=problem.loss[::-1], shared=(0, 1))
    one, other = VariableProjection(problem).best, VariableProjection(turned).best
    assert one.objective[0] == pytest.approx(other.objective[0], rel=1e-6)


def test_weights_count_as_repeated_points():
    module = benchmark()
    problem = module.random_problem(np.random.default_rng(4))
    counts = np.random.default_rng(0).integers(1, 4, size=problem.loss.size)
    repeated = SumOfPowers(
        quantities=np.repeat(problem.quantities, counts, axis=1), loss=np.repeat(problem.loss, counts), shared=(0, 1)
    )
    weighted = VariableProjection(problem).refit(Samples.weighted(counts[None])).objective[0]
    assert weighted == pytest.approx(VariableProjection(repeated).best.objective[0], abs=1e-7)


def test_shifts_count_as_other_losses():
    module = benchmark()
    problem = module.random_problem(np.random.default_rng(5))
    shifts = 0.01 * np.random.default_rng(0).standard_normal((1, problem.loss.size))
    other = SumOfPowers(quantities=problem.quantities, loss=problem.loss * np.exp(shifts[0]), shared=(0, 1))
    refitted = VariableProjection(problem).refit(Samples(weights=np.ones_like(shifts), shifts=shifts))
    assert refitted.objective[0] == pytest.approx(VariableProjection(other).best.objective[0], abs=1e-7)


def test_no_good_start_is_missed_on_random_problems():
    module = benchmark()
    found = module.compare(problems=10, starts=5, seed=11)
    assert (found.ours <= module.MISSED).all()
