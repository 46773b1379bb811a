"""Optima of cells on a grid of learning rate and batch: planted valleys found, intervals that hold, edges said."""

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.grid import grid_of
from orchestrator.laws.hyperparameters import find_optima, fit
from orchestrator.laws.places import Way, surface_places
from orchestrator.laws.records import RunRecord
from orchestrator.laws.replicates import Noise
from orchestrator.laws.result import Estimate
from orchestrator.laws.selection import CellRuns, group_cells, select

GAP = np.log(2)
STEPS = np.arange(-3, 4)
EVERY_COLUMN = ("params", "tokens", "loss", "learning_rate", "batch_tokens")


def cell_on_grid(truth, rng, *, noise=0.0, params=1e6, tokens=2e7, steps=STEPS, shift=(0.0, 0.0)):
    """A cell's runs, the grid's middle `shift` gaps away from the planted optimum."""
    centre = truth.optimum(params, tokens)
    runs = []
    for number, (rate, batch) in enumerate((rate, batch) for rate in steps for batch in steps):
        offset = np.array([rate - shift[0], batch - shift[1], 0.0]) * GAP
        loss = truth.floor(params, tokens) * np.exp(truth.excess(offset) + noise * rng.standard_normal())
        runs.append(
            RunRecord(
                run_id=f"{params:g}-{tokens:g}-{number}",
                params=params,
                tokens=tokens,
                loss=float(loss),
                learning_rate=float(np.exp(centre[0] + offset[0])),
                batch_tokens=float(np.exp(centre[1] + offset[1])),
            )
        )
    return CellRuns(scale=0, params=params, tokens=tokens, runs=tuple(runs))


def sweep_on_grids(truth, seed, noise, scales=6):
    rng = np.random.default_rng(seed)
    cells = [
        cell_on_grid(
            truth,
            rng,
            noise=noise,
            params=3e5 * 2.0**scale,
            tokens=3e5 * 2.0**scale * ratio,
            shift=rng.uniform(-1, 1, 2),
        )
        for scale in range(scales)
        for ratio in (10, 40)
    ]
    return [run for cell in cells for run in cell.runs]


def log_losses(cell):
    return np.log([run.loss for run in cell.runs])[:, None]


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, -0.3), (-0.9, 0.6)])
def test_a_planted_valley_is_found_on_a_grid(truth, shift):
    planted = truth()
    cell = cell_on_grid(planted, np.random.default_rng(0), shift=shift)
    found = grid_of(cell).best(log_losses(cell))[0]
    assert found == pytest.approx(planted.optimum(cell.params, cell.tokens)[:2], abs=0.25 * GAP)


def test_a_batch_of_noisy_tables_gives_what_each_gives_alone(truth):
    rng = np.random.default_rng(0)
    cell = cell_on_grid(truth(), rng)
    copies = log_losses(cell) + 0.01 * rng.standard_normal((len(cell.runs), 5))
    together = grid_of(cell).best(copies)
    alone = [grid_of(cell).best(copies[:, [draw]])[0] for draw in range(5)]
    assert together == pytest.approx(np.array(alone))


def test_the_lowest_of_replicates_and_of_beta2_counts(truth):
    cell = cell_on_grid(truth(), np.random.default_rng(0), shift=(0.4, 0.0))
    worse = [replace(run, run_id=f"{run.run_id}b", beta2=0.9, loss=run.loss * 1.1) for run in cell.runs]
    both = replace(cell, runs=(*worse, *cell.runs))
    assert grid_of(both).best(log_losses(both)) == pytest.approx(grid_of(cell).best(log_losses(cell)))


def test_a_grid_with_holes_is_one_and_a_sparse_or_small_one_is_none(truth):
    rng = np.random.default_rng(0)
    cell = cell_on_grid(truth(), rng)
    order = rng.permutation(len(cell.runs))
    holes = replace(cell, runs=tuple(cell.runs[at] for at in order[:44]))
    sparse = replace(cell, runs=tuple(cell.runs[at] for at in order[:30]))
    small = cell_on_grid(truth(), rng, steps=np.arange(-2, 2))
    assert grid_of(cell) is not None and grid_of(holes) is not None
    assert grid_of(sparse) is None and grid_of(small) is None


def test_random_settings_and_missing_batches_are_no_grid(truth, sweep):
    cells = group_cells(select(sweep(0, truth(), trials=60, shared=False), EVERY_COLUMN, law="x"))
    assert all(grid_of(cell) is None for cell in cells)
    cell = cell_on_grid(truth(), np.random.default_rng(0))
    assert grid_of(replace(cell, runs=tuple(replace(run, batch_tokens=None) for run in cell.runs))) is None


def test_rates_that_differ_by_rounding_are_one_rate(truth):
    cell = cell_on_grid(truth(), np.random.default_rng(0))
    rounded = replace(
        cell, runs=tuple(replace(run, learning_rate=float(f"{run.learning_rate:.3g}")) for run in cell.runs)
    )
    assert len(grid_of(rounded).log_rates) == len(STEPS)


def test_an_optimum_between_the_last_two_values_is_an_edge_and_diverged_runs_close_it(truth):
    planted = truth()
    cell = cell_on_grid(planted, np.random.default_rng(0), shift=(2.6, 0.0))
    grid = grid_of(cell)
    low, high = grid.interior[0]
    assert grid.best(log_losses(cell))[0, 0] > high
    top = max(run.learning_rate for run in cell.runs)
    beyond = [
        replace(run, run_id=f"{run.run_id}d", learning_rate=2 * top, loss=None, status="diverged") for run in cell.runs
    ]
    closed = grid_of(replace(cell, diverged=tuple(beyond[: len(STEPS)])))
    assert low < closed.best(log_losses(cell))[0, 0] < closed.interior[0, 1]


@pytest.mark.parametrize("noise", [0.001, 0.004])
def test_intervals_of_the_noise_bootstrap_hold(truth, noise):
    planted, away = truth(skew=0.4), []
    for seed in range(4):
        _, found = find_optima(sweep_on_grids(planted, seed, noise))
        places = found.on_grids
        wanted = np.array([planted.optimum(cell.params, cell.tokens)[:2] for cell in found.cells])
        stderr = np.sqrt(np.diag(places.covariance)).reshape(wanted.shape)
        away.append(np.where(places.side == 0, (places.centre - wanted) / stderr, np.nan))
    inner = np.concatenate(away).ravel()
    inner = inner[np.isfinite(inner)]
    assert np.mean(np.abs(inner) < 1.96) > 0.88
    assert 0.6 < np.std(inner) < 1.3


def test_both_ways_are_shown_and_the_one_that_predicts_held_out_cells_stands(truth):
    law = fit(sweep_on_grids(truth(), 0, 0.003), draws=50)
    errors = {
        way: sum(row["held_out_error"] ** 2 for row in law.tables["ways"] if row["way"] == way) for way in tuple(Way)
    }
    best = min(errors, key=errors.get)
    assert {row["way"] for row in law.tables["optima"]} == {best}
    assert {row["way"] for row in law.tables["other_optima"]} == set(Way) - {best}
    assert {row["way"] for row in law.tables["ways"] if row["chosen"]} == {best}


def test_a_sweep_without_grids_knows_one_way(truth, sweep):
    _, found = find_optima(sweep(0, truth(), shared=False))
    assert found.on_grids is None
    assert found.by_each_way() == (found,)
    assert {row["way"] for row in found.rows()} == {Way.SURFACE}


def test_a_table_of_one_scale_takes_its_grid_and_says_the_noise(truth):
    cell = cell_on_grid(truth(), np.random.default_rng(0), noise=0.002, shift=(0.3, 0.2))
    law = fit(cell.runs, draws=50)
    (row,) = law.tables["optima"]
    assert row["way"] == Way.GRID
    assert row["grid_noise_from"] == "residuals of the quadratic"
    assert row["learning_rate_low"] < row["learning_rate"] < row["learning_rate_high"]


def test_enough_replicates_give_the_noise_of_the_bootstrap(truth):
    rng = np.random.default_rng(0)
    runs = sweep_on_grids(truth(), 0, 0.0, scales=2)
    noisy = [
        replace(run, run_id=f"{run.run_id}{seed}", loss=run.loss * np.exp(0.004 * rng.standard_normal()))
        for run in runs
        for seed in "ab"
    ]
    _, found = find_optima(noisy)
    assert found.noise.source == "replicates"
    assert found.noise.sd == pytest.approx(0.004, rel=0.15)
    assert found.noise.dof == len(runs)
    few = find_optima([*noisy[:6], *noisy[6::2]])[1].noise
    assert few.source == "residuals of the quadratic"
    assert few.sd == pytest.approx(0.004, rel=0.35)


def test_readings_of_one_run_share_their_part_of_the_noise():
    noise = Noise(sd=2.0, dof=9.0, source="replicates", shared=0.7)
    drawn = noise.sample(np.array([0, 1, 0]), 20_000, np.random.default_rng(0))
    covariance = np.cov(drawn)
    assert np.diag(covariance) == pytest.approx(np.full(3, 4.0), rel=0.05)
    assert covariance[0, 2] == pytest.approx(0.7 * 4, rel=0.05)
    assert covariance[0, 1] == pytest.approx(0.0, abs=0.1)


def test_beta2_stays_with_the_surface(truth, sweep):
    rng = np.random.default_rng(1)
    runs = [
        replace(
            run,
            run_id=f"{run.run_id}-{step}",
            beta2=float(2 ** (-1 / np.exp(5 + step))),
            loss=run.loss * np.exp(0.002 * step**2 + 0.001 * rng.standard_normal()),
        )
        for run in sweep_on_grids(truth(), 0, 0.001, scales=3)
        for step in (-1, 0, 1)
    ]
    _, found = find_optima(runs)
    assert found.settings == ("learning_rate", "batch_tokens", "beta2")
    surface = surface_places(found.cells, found.settings, found.surface)
    assert found.on_grids.centre[:, 2] == pytest.approx(surface.centre[:, 2])
    assert found.on_grids.between(2, 2) == pytest.approx(surface.between(2, 2))
    assert not found.on_grids.between(0, 2).any()
    assert all(isinstance(optimum.settings["beta2"], Estimate) for optimum in found.by_each_way()[1].optima)


def test_step_laws_cells_by_both_ways(steplaw):
    _, found = find_optima(steplaw)
    on_surface, on_grids = found.by_each_way()
    assert set(on_grids.places.way) == {Way.GRID}
    apart = on_grids.places.centre - on_surface.places.centre
    stderr = np.sqrt(np.diag(on_grids.places.covariance)).reshape(apart.shape)
    assert np.abs(np.median(apart, axis=0)).max() < 0.5 * GAP
    assert np.mean(np.abs(apart) < 3 * stderr) > 0.8
