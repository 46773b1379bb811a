"""Planted surfaces keep their truth: regrets are against the best of the space, kinds are what they say."""

import math

import numpy as np
import pytest
from searching.planted import BREAKS_AT, FORMS, Kind, planted

KINDS_AND_SEEDS = [(kind, seed) for kind in Kind for seed in range(12)]


def inside(surface, cell):
    optimum = surface.optimum(cell.params, cell.tokens)
    return all(low <= optimum[name] <= high for name, (low, high) in cell.ranges.items())


def draw(rng, cell):
    bounds = {
        name: (1 - high, 1 - low) if name == "beta2" else (low, high) for name, (low, high) in cell.ranges.items()
    }
    point = {name: math.exp(rng.uniform(math.log(low), math.log(high))) for name, (low, high) in bounds.items()}
    return {name: 1 - value if name == "beta2" else value for name, value in point.items()}


@pytest.mark.parametrize(("kind", "seed"), KINDS_AND_SEEDS)
def test_nothing_in_the_space_is_better_than_its_best(kind, seed):
    surface, rng = planted(kind, seed), np.random.default_rng(seed)
    for cell in surface.cells:
        regrets = [surface.regret(cell.params, cell.tokens, draw(rng, cell)) for _ in range(40)]
        assert min(regrets) > -1e-6
        assert max(regrets) > 0.002
        if inside(surface, cell):
            optimum = surface.optimum(cell.params, cell.tokens)
            assert surface.regret(cell.params, cell.tokens, optimum) == pytest.approx(0, abs=1e-9)


def test_the_best_of_a_space_without_the_optimum_is_on_its_edge():
    """And as good as anything that a dense grid of the space holds."""
    surface = planted(Kind.EDGE, 0)
    outside = [cell for cell in surface.cells if not inside(surface, cell)]
    assert len(outside) >= len(surface.cells) // 5
    for cell in outside:
        names = list(cell.ranges)
        grid = np.stack(np.meshgrid(*[np.geomspace(*cell.ranges[name], 41) for name in names]), axis=-1)
        points = grid.reshape(-1, len(names))
        regrets = np.array(
            [surface.regret(cell.params, cell.tokens, dict(zip(names, point, strict=True))) for point in points]
        )
        assert -1e-6 < regrets.min() < 1e-3
        on_edge = [np.isclose(points[regrets.argmin(), k], cell.ranges[name]).any() for k, name in enumerate(names)]
        assert any(on_edge)


@pytest.mark.parametrize("kind", [Kind.LAWFUL, Kind.BENT, Kind.BREAK])
def test_other_spaces_hold_their_optima(kind):
    for seed in range(12):
        surface = planted(kind, seed)
        assert all(inside(surface, cell) for cell in surface.cells)


def test_designs_differ():
    surfaces = [planted(Kind.LAWFUL, seed) for seed in range(24)]
    counts = {len(surface.cells) for surface in surfaces}
    assert min(counts) >= 8
    assert max(counts) <= 17
    assert len(counts) > 4
    assert {len(surface.cells[0].ranges) for surface in surfaces} == {2, 3}
    for surface in surfaces:
        flops = [cell.flops for cell in surface.cells]
        assert flops == sorted(flops)


def test_a_break_is_at_the_fifth_cell():
    """A law through the cells before it misses the ones behind by more than it misses any before."""
    for seed in range(12):
        surface = planted(Kind.BREAK, seed)
        logs = np.array([[1, math.log(cell.params), math.log(cell.tokens)] for cell in surface.cells])
        rates = np.array([math.log(surface.optimum(c.params, c.tokens)["learning_rate"]) for c in surface.cells])
        step = (np.arange(len(rates)) >= BREAKS_AT).astype(float)
        with_step = np.linalg.lstsq(np.column_stack([logs, step]), rates, rcond=None)[0]
        assert 2 < math.exp(abs(with_step[-1])) < 6.5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bending", [0.4, 0.8, 1.2])
def test_forms_rise_through_zero(form, bending):
    offsets = np.linspace(-4, 4, 401)
    bent = form(offsets, bending)
    assert np.all(np.diff(bent) > 0)
    assert abs(form(np.array([1e-9]), bending)[0]) < 1e-4


def test_a_seed_is_one_surface():
    first, again = planted(Kind.LAWFUL, 3), planted.__wrapped__(Kind.LAWFUL, 3)
    cell = first.cells[2]
    settings = draw(np.random.default_rng(0), cell)
    assert first.evaluate(cell.params, cell.tokens, settings) == again.evaluate(cell.params, cell.tokens, settings)
    assert planted(Kind.LAWFUL, 4).cells[2] != cell
