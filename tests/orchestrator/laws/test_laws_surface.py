import numpy as np
import pytest

from orchestrator.laws.surface import fit_surface
from orchestrator.laws.surface_form import Observations, jacobian_of, pooled_size, predicted_excess

CURVATURE = np.array([[0.014, -0.005], [-0.005, 0.013]])


def first_coordinate_covariance(surface):
    """Covariance (cells, cells) of the first coordinate of the centres."""
    cells, settings = surface.centre.shape
    return surface.covariance[cells::settings, cells::settings]


def planted(seed, *, cells=8, runs=24, noise=0.002, excess):
    rng = np.random.default_rng(seed)
    centres = np.column_stack([-6 + 0.2 * np.arange(cells), 9 + 0.3 * np.arange(cells)])
    cell = np.repeat(np.arange(cells), runs)
    coordinates = centres[cell] + rng.uniform(-2, 2, (cell.size, 2))
    log_loss = 1.0 + 0.05 * cell + excess(coordinates - centres[cell]) + noise * rng.standard_normal(cell.size)
    return centres, Observations(coordinates=coordinates, log_loss=log_loss, cell=cell, run=np.arange(cell.size))


def quadratic(offset):
    return 0.5 * np.einsum("ni,ij,nj->n", offset, CURVATURE, offset)


def steep_side(offset):
    """High learning rates cost three times as much, and more beyond: not the fitted form."""
    factor = np.where(offset[:, 0] > 0, 1.5, 0.5)
    return (
        0.5 * (0.014 * factor * offset[:, 0] ** 2 + 0.013 * offset[:, 1] ** 2)
        + 0.02 * np.maximum(offset[:, 0] - 1, 0) ** 3
    )


def test_derivatives_are_right():
    _, data = planted(0, cells=3, runs=8, excess=quadratic)
    middles = [data.coordinates[data.cell == cell].mean(axis=0) for cell in range(3)]
    theta = np.concatenate([np.ones(3), np.ravel(middles), [-2.0, -2.2, -0.05, 0.7]])

    def predicted(at):
        return at[data.cell] + predicted_excess(data, at)

    step = 1e-6
    numeric = np.column_stack(
        [(predicted(theta + step * unit) - predicted(theta - step * unit)) / (2 * step) for unit in np.eye(theta.size)]
    )
    assert jacobian_of(data, theta, np.ones(data.log_loss.size)).toarray() == pytest.approx(numeric, abs=1e-6)
    assert pooled_size(2) == 4


def test_an_exact_quadratic_is_found_to_the_last_digits():
    centres, data = planted(1, noise=0.0, excess=quadratic)
    surface = fit_surface(data)
    assert surface.centre == pytest.approx(centres, abs=2e-3)
    assert surface.curvature == pytest.approx(CURVATURE, abs=1e-4)
    assert surface.skew == pytest.approx(0, abs=1e-2)


def test_standard_errors_are_the_scatter_of_repeated_sweeps():
    errors, claimed, floors, claimed_floors = [], [], [], []
    for seed in range(24):
        centres, data = planted(seed, excess=quadratic)
        surface = fit_surface(data)
        errors.append(surface.centre[:, 0] - centres[:, 0])
        claimed.append(np.sqrt(np.diag(first_coordinate_covariance(surface))))
        floors.append(surface.floor - 1.0 - 0.05 * np.arange(8))
        claimed_floors.append(surface.floor_stderr())
    assert np.std(errors) == pytest.approx(np.mean(claimed), rel=0.2)
    assert np.std(floors) == pytest.approx(np.mean(claimed_floors), rel=0.25)
    assert abs(np.mean(errors)) < 4 * np.mean(claimed) / np.sqrt(192)


def test_a_steep_diverging_side_does_not_move_the_optimum():
    errors = []
    for seed in range(10):
        centres, data = planted(seed, excess=steep_side)
        errors.append(fit_surface(data).centre - centres)
    # The tried range is 4 wide.
    assert np.abs(np.mean(errors, axis=(0, 1))).max() < 0.12


def test_a_few_wild_runs_do_not_matter():
    centres, data = planted(3, excess=quadratic)
    wild = data.log_loss.copy()
    wild[::24] += 0.3
    clean = fit_surface(data)
    found = fit_surface(Observations(coordinates=data.coordinates, log_loss=wild, cell=data.cell, run=data.run))
    assert np.abs(found.centre - centres).mean() < 2 * np.abs(clean.centre - centres).mean() + 0.02


def test_errors_shared_by_readings_of_one_run_are_seen():
    rng = np.random.default_rng(5)
    common = np.tile(0.003 * rng.standard_normal(40), 4)
    cell, run = np.repeat(np.arange(4), 40), np.tile(np.arange(40), 4)
    coordinates = np.tile(rng.uniform(-2, 2, (40, 2)), (4, 1))
    log_loss = 1 + quadratic(coordinates) + common + 0.001 * rng.standard_normal(160)
    surface = fit_surface(Observations(coordinates=coordinates, log_loss=log_loss, cell=cell, run=run))
    assert surface.shared > 0.6
    covariance = first_coordinate_covariance(surface)
    assert covariance[0, 1] > 0.5 * covariance[0, 0]
