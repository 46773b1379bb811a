"""The surface of the published table, and what the spending of FLOP is counted as."""

import numpy as np
import pytest
from searching.runner import search
from searching.spending import each_cell, grid_and_extrapolate, smallest_then_target, spent, target_alone
from searching.step_law import TABLE, read_step_law


@pytest.fixture(scope="module")
def surface():
    if not TABLE.exists():
        pytest.skip(f"the published table is not here: {TABLE.name}")
    return read_step_law()


def test_cells_are_in_order_and_their_grids_are_near_the_surface(surface):
    flops = [cell.flops for cell in surface.cells]
    assert len(flops) == 17
    assert flops == sorted(flops)
    for cell in surface.cells:
        points = surface.grids[cell.params, cell.tokens]
        losses = np.array([point.loss for point in points])
        fitted = np.array([surface.evaluate(cell.params, cell.tokens, point.settings) for point in points])
        near = losses < 1.02 * losses.min()
        assert np.abs(fitted / losses - 1)[near].mean() < 0.002
        regrets = [surface.regret(cell.params, cell.tokens, point.settings) for point in points]
        assert -1e-4 < min(regrets) < 0.002


def test_a_point_outside_counts_as_the_edge(surface):
    cell = surface.cells[0]
    low, high = cell.ranges["learning_rate"]
    middle = np.sqrt(np.prod(cell.ranges["batch_tokens"]))
    for edge, beyond in ((low, low / 3), (high, 3 * high)):
        at = [
            surface.evaluate(cell.params, cell.tokens, {"learning_rate": rate, "batch_tokens": middle})
            for rate in (edge, beyond)
        ]
        assert at[0] == pytest.approx(at[1], rel=1e-12)


@pytest.mark.parametrize(
    ("way", "cells"), [(each_cell, [0, 1, 2, 3, 4, 5]), (target_alone, [5]), (smallest_then_target, [0, 1, 2, 3, 5])]
)
def test_spent_is_what_the_trials_of_all_cells_cost(surface, way, cells):
    paths = search(way("random", 0, 0.001, 5))
    assert [path.cell for path in paths] == cells
    found = spent(paths)
    sizes = [surface.cells[path.cell] for path in paths]
    trials = [len(path.regrets) for path in paths]
    assert found.flops == pytest.approx(sum(6 * c.params * c.tokens * n for c, n in zip(sizes, trials, strict=True)))
    assert found.known == (paths[-1].regrets[-1] <= 0.0025)
    if way is smallest_then_target:
        assert trials[:-1] == [16] * 4


def test_the_full_grid_costs_its_runs(surface):
    found = grid_and_extrapolate(surface, 0, 0.0, 16)
    smallest = surface.cells[:4]
    runs = [len(surface.grids[cell.params, cell.tokens]) for cell in smallest]
    assert found.flops == pytest.approx(sum(n * cell.flops for n, cell in zip(runs, smallest, strict=True)))
    assert -1e-4 < found.regret < 0.05
