"""Guo's law: its line, and the test of it, which must reject where the truth is Hoffmann's and only there."""

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws import chinchilla, compute_only
from orchestrator.laws.loss_points import loss_points
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Status
from orchestrator.laws.split_test import split_tests
from search_spaces.errors import FitError, MissingColumnError

LINE = {"intercept": 6.5, "slope": 0.09}
HOFFMANN = {"E": 1.817, "A": 482.0, "B": 2085.0, "alpha": 0.348, "beta": 0.366}  # Besiroglu et al. 2024


def guo(params, tokens):
    return compute_only.loss(LINE, 6 * params * tokens)


def bent(params, tokens):
    return 1.7 + 1000 * (6 * params * tokens) ** -0.16


def hoffmann(params, tokens):
    return chinchilla.loss(HOFFMANN, params, tokens)


def isoflop_runs(rng, truth, *, flops=(1e17, 1e20), budgets=6, sizes=5, noise=0.005):
    records = []
    for compute in np.geomspace(*flops, budgets):
        for shift in np.linspace(-1.2, 1.2, sizes):
            params = np.sqrt(compute / 120) * np.exp(shift)
            tokens = compute / (6 * params)
            loss = float(truth(params, tokens) * np.exp(noise * rng.standard_normal()))
            records.append(RunRecord(run_id=f"{compute:.4g} {shift:g}", params=params, tokens=tokens, loss=loss))
    return records


def curve_runs(rng, truth, *, sizes=9, points=8, noise=0.005):
    records = []
    for number, params in enumerate(np.geomspace(1e7, 1e9, sizes)):
        luck = rng.standard_normal()
        for ratio in np.geomspace(3, 300, points):
            own = noise * (luck + 0.25 * rng.standard_normal())
            loss = float(truth(params, ratio * params) * np.exp(own))
            records.append(
                RunRecord(run_id=str(number), params=params, tokens=ratio * params, loss=loss, schedule="constant")
            )
    return records


def rejections(make, truth, sweeps, **design):
    found = 0
    for sweep in range(sweeps):
        points = loss_points(make(np.random.default_rng(sweep), truth, **design), law="compute-only")
        found += split_tests(points, draws=200, seed=sweep)[-1].p_value < 0.05
    return found / sweeps


@pytest.mark.parametrize("make", [isoflop_runs, curve_runs])
@pytest.mark.parametrize("truth", [guo, bent])
def test_the_test_keeps_its_size_where_compute_alone_matters(make, truth):
    """Also where the loss bends with compute: a bend is no split. 5 % of 80 is 4 +- 2."""
    assert rejections(make, truth, 80) <= 0.125


def test_the_test_rejects_hoffmanns_surface_at_small_compute():
    assert rejections(isoflop_runs, hoffmann, 20) >= 0.95
    assert rejections(curve_runs, hoffmann, 20) >= 0.95


def test_near_the_floor_of_hoffmanns_surface_the_claim_looks_true():
    """The same splits, the same noise: at 1e17 FLOP they show, at 1e25 they drown."""
    small = rejections(isoflop_runs, hoffmann, 20, flops=(1e17, 1e18), noise=0.01)
    large = rejections(isoflop_runs, hoffmann, 20, flops=(1e25, 1e26), noise=0.01)
    assert large <= 0.2
    assert small >= 0.8


def test_a_wrong_split_costs_what_the_caveat_says():
    """With these constants a factor of 4 costs 13 % of the reducible loss, about alpha beta ln(4)^2 / 2."""
    flops = 1e18
    params = chinchilla.optimal_params(HOFFMANN, flops)
    best = hoffmann(params, flops / 6 / params)
    wrong = hoffmann(4 * params, flops / 6 / (4 * params))
    assert float(wrong - best) / float(best - HOFFMANN["E"]) == pytest.approx(0.13, abs=0.015)


def test_the_line_is_recovered_and_a_true_claim_is_ok():
    law = compute_only.fit(isoflop_runs(np.random.default_rng(0), guo), draws=200)
    assert law.status is Status.OK
    assert law.value("slope") == pytest.approx(LINE["slope"], abs=0.004)
    assert [row["degrees_of_freedom"] for row in law.tables["tests"]] == [1, 2]
    assert float(compute_only.loss(LINE, np.e * 1e20)) == pytest.approx(
        float(compute_only.loss(LINE, 1e20)) - LINE["slope"]
    )


def test_where_the_split_matters_the_law_is_weak_and_says_the_statistic():
    law = compute_only.fit(isoflop_runs(np.random.default_rng(0), hoffmann), draws=200)
    assert law.status is Status.WEAK
    assert "the split matters" in law.reason
    assert "2 degrees of freedom" in law.reason
    assert "bends in ln C" in law.reason


@pytest.mark.parametrize("make", [isoflop_runs, curve_runs])
def test_intervals_cover_the_planted_line(make):
    sweeps = 60
    inside = 0
    for sweep in range(sweeps):
        law = compute_only.fit(make(np.random.default_rng(sweep), guo), draws=120, seed=sweep)
        inside += sum(law.parameters[name].low <= LINE[name] <= law.parameters[name].high for name in LINE)
    assert inside / (2 * sweeps) >= 0.86


def test_runs_of_one_split_cannot_be_tested_and_say_so():
    rng = np.random.default_rng(0)
    records = isoflop_runs(rng, guo, sizes=1, budgets=12)
    law = compute_only.fit(records, draws=100)
    assert law.tables["tests"] == []
    assert "was not tested" in law.reason


def test_a_loss_that_does_not_fall_with_compute_is_weak():
    rng = np.random.default_rng(0)
    law = compute_only.fit(isoflop_runs(rng, lambda n, d: 3.0 + 0 * n), draws=100)
    assert "not told from zero" in law.reason


def test_poor_tables_are_refused_with_what_was_needed():
    records = isoflop_runs(np.random.default_rng(0), guo)
    with pytest.raises(FitError, match="3 values of compute"):
        compute_only.fit(records[:5])
    with pytest.raises(MissingColumnError, match="'loss'"):
        compute_only.fit([replace(record, loss=None) for record in records])


@pytest.mark.parametrize("losses", [[3.0] * 6, [1e-12, 1, 2, 3, 4, 1e9]])
def test_ugly_losses_give_an_honest_law(losses):
    records = [
        RunRecord(run_id=str(at), params=1e7 * 2**at, tokens=1e9 * 3 ** (at % 3), loss=float(loss))
        for at, loss in enumerate(losses)
    ]
    assert compute_only.fit(records, draws=50).status is Status.WEAK
