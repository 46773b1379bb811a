import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.laws.coordinates import beta2_of, half_life_steps
from orchestrator.laws.hyperparameters import find_optima
from orchestrator.laws.optimum import Edge
from orchestrator.laws.result import Estimate
from search_spaces.errors import FitError


@given(st.floats(0.01, 0.99999))
def test_half_life_and_beta2_are_inverses(beta2):
    assert beta2_of(half_life_steps(beta2)) == pytest.approx(beta2, rel=1e-9)


def test_optima_and_their_loss_are_found_with_intervals_that_hold(sweep, truth):
    planted = truth()
    held, errors = [], []
    for seed in range(6):
        _, found = find_optima(sweep(seed, planted, shared=False))
        for optimum in found.optima:
            wanted = np.exp(planted.optimum(optimum.params, optimum.tokens))
            best = planted.floor(optimum.params, optimum.tokens)
            rate = optimum.settings["learning_rate"]
            held.append(isinstance(rate, Estimate) and rate.low <= wanted[0] <= rate.high)
            held.append(optimum.loss.low <= best <= optimum.loss.high)
            errors.append([np.log(optimum.loss.value / best), np.log(optimum.raw_minimum / best)])
    assert np.mean(held) > 0.88
    fitted, lucky = np.abs(np.mean(errors, axis=0))
    assert fitted < 0.5 * lucky


def test_an_optimum_outside_of_what_was_tried_is_an_edge_and_no_value(sweep, truth):
    records = sweep(0, truth(), trials=40, shared=False)
    low_half = [run for run in records if np.log(run.learning_rate) < cell_optimum(truth(), run) - 0.3]
    _, found = find_optima(low_half)
    edges = [optimum.settings["learning_rate"] for optimum in found.optima]
    assert sum(edge is Edge.HIGH for edge in edges) > 0.6 * len(edges)
    assert all(row["learning_rate"] is None for row in found.rows() if row["learning_rate_edge"])


def test_diverged_runs_above_the_tried_ones_close_the_edge(sweep, truth):
    records = sweep(0, truth(), shared=False)
    kept = [
        run
        if np.log(run.learning_rate) < cell_optimum(truth(), run) + 0.05
        else replace(run, status="diverged", loss=None)
        for run in records
    ]
    _, found = find_optima(kept)
    assert sum(optimum.diverged for optimum in found.optima) > 100
    inside = [isinstance(optimum.settings["learning_rate"], Estimate) for optimum in found.optima]
    assert np.mean(inside) > 0.8


def test_a_setting_that_does_not_matter_is_flat(sweep, truth):
    rng = np.random.default_rng(0)
    records = [replace(run, beta2=float(1 - 10 ** rng.uniform(-3, -1))) for run in sweep(0, truth(), shared=False)]
    _, found = find_optima(records)
    assert found.settings == ("learning_rate", "batch_tokens")
    assert found.flat == ("beta2",)


def test_replicates_give_the_noise(sweep, truth):
    records = sweep(0, truth(), shared=False)
    rng = np.random.default_rng(0)
    again = [
        replace(run, run_id=f"{run.run_id}b", loss=run.loss * np.exp(0.003 * rng.standard_normal())) for run in records
    ]
    _, found = find_optima(records + again)
    assert found.noise.sd == pytest.approx(0.003 / np.sqrt(2), rel=0.15)
    assert found.noise.source == "replicates"
    assert find_optima(records)[1].noise.source == "residuals of the quadratic"


def test_too_few_runs_are_said_with_numbers(sweep, truth):
    with pytest.raises(FitError, match="the fullest has 4, and 3 settings need 5"):
        find_optima(sweep(0, truth(), trials=4, shared=False))


def cell_optimum(planted, run):
    return planted.optimum(run.params, run.tokens)[0]


def test_what_two_values_of_a_setting_cost_is_not_taken_for_noise(sweep, truth):
    """A search presses the batch against the low end of its space: other cells have two values of it left."""
    planted = truth(noise=0.001)
    pressed = []
    for run in sweep(0, planted, trials=16, shared=False, ratios=(20.0,)):
        place = planted.optimum(run.params, run.tokens)
        if run.params < 1e6:
            pressed.append(run)
            continue
        batch = math.exp(place[1]) * (2 if int(run.run_id.rsplit("-", 1)[1]) % 2 else 8)
        settings = np.log([run.learning_rate, batch, -math.log(2) / math.log(run.beta2)])
        loss = planted.floor(run.params, run.tokens) * math.exp(planted.excess(settings - place))
        pressed.append(replace(run, batch_tokens=batch, loss=loss))
    _, found = find_optima(pressed)
    assert found.settings[:2] == ("learning_rate", "batch_tokens")
    rates = [optimum.settings["learning_rate"].value for optimum in found.optima]
    expected = [math.exp(planted.optimum(cell.params, cell.tokens)[0]) for cell in found.cells]
    assert np.abs(np.log(np.array(rates) / expected)).max() < 0.25
