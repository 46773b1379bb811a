from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws import hyperparameters
from orchestrator.laws.result import Status
from search_spaces.errors import MissingColumnError

SETTINGS = {"learning_rate": "learning_rate", "batch_tokens": "batch_tokens", "beta2_half_life": "half_life"}


def check(law, planted):
    """For each fitted exponent, whether its interval holds the planted one, and how far off it is."""
    found = []
    for name, field in SETTINGS.items():
        for term, true in zip(("params", "tokens"), getattr(planted, field), strict=True):
            estimate = law.parameters.get(f"{name}.{term}_exponent")
            if estimate is not None:
                found.append((estimate.low <= true <= estimate.high, abs(estimate.value - true)))
    return found


@pytest.mark.parametrize("design", [{"shared": False}, {"shared": True}])
@pytest.mark.parametrize("surface", [{}, {"steep": True}])
def test_planted_exponents_lie_in_their_intervals(sweep, truth, design, surface):
    planted = truth(**surface)
    found = [
        each
        for seed in range(4)
        for each in check(hyperparameters.fit(sweep(seed, planted, **design), draws=20), planted)
    ]
    covered = np.mean([inside for inside, _ in found])
    assert len(found) >= 16
    assert covered >= 0.85
    assert np.median([error for _, error in found]) < 0.06


def test_without_noise_the_planted_laws_come_out(sweep, truth):
    planted = truth(noise=0.0)
    law = hyperparameters.fit(sweep(0, planted), draws=20)
    assert law.status is Status.OK
    assert max(error for _, error in check(law, planted)) < 0.01


def test_order_of_records_and_repetition_change_nothing(sweep, truth):
    records = sweep(0, truth())
    shuffled = [records[place] for place in np.random.default_rng(0).permutation(len(records))]
    first, second = (hyperparameters.fit(each, seed=3, draws=50) for each in (records, shuffled))
    assert first.parameters == second.parameters
    assert all(np.array_equal(first.draws[name], second.draws[name]) for name in first.draws)
    assert first.tables == second.tables


def test_draws_have_the_spread_of_the_intervals(sweep, truth):
    law = hyperparameters.fit(sweep(1, truth()), draws=4000)
    for name, estimate in law.parameters.items():
        if estimate.low is None:
            continue
        low, high = np.quantile(law.draws[name], [0.025, 0.975])
        if name.endswith("coefficient"):
            assert np.log(high / low) == pytest.approx(np.log(estimate.high / estimate.low), rel=0.2), name
        else:
            assert high - low == pytest.approx(estimate.high - estimate.low, rel=0.2), name


def test_along_one_tokens_per_param_there_is_no_tokens_exponent(sweep, truth):
    law = hyperparameters.fit(sweep(0, truth(), ratios=(20.0,), shared=False), draws=20)
    assert not [name for name in law.parameters if name.endswith("tokens_exponent")]
    assert law.value("learning_rate.along_tokens_per_param") == pytest.approx(20)
    assert law.value("learning_rate.params_exponent") == pytest.approx(-0.36 + 0.12, abs=0.15)
    assert "along tokens_per_param = 20" in law.form


def test_few_scales_are_weak_and_one_is_no_law(sweep, truth):
    weak = hyperparameters.fit(sweep(0, truth(), scales=4), draws=20)
    assert (weak.status, weak.reason.split(";")[0]) == (Status.WEAK, "4 scales")
    failed = hyperparameters.fit(sweep(0, truth(), scales=1), draws=20)
    assert failed.status is Status.FAILED
    assert failed.tables["optima"]


def test_both_forms_of_the_beta2_law_are_shown_and_the_better_one_chosen(sweep, truth):
    law = hyperparameters.fit(sweep(0, truth(), shared=False), draws=20)
    rows = {row["law"]: row for row in law.tables["laws"]}
    forms = [rows["beta2_half_life"], rows["one_minus_beta2"]]
    chosen = next(row for row in forms if row["chosen"])
    assert chosen["held_out_error"] == min(row["held_out_error"] for row in forms)
    assert f"{chosen['law']}.coefficient" in law.parameters


def test_only_a_learning_rate_is_needed(sweep, truth):
    records = [replace(run, batch_tokens=None, beta2=None) for run in sweep(0, truth())]
    law = hyperparameters.fit(records, draws=20)
    assert {name.split(".")[0] for name in law.parameters} == {"learning_rate"}
    with pytest.raises(MissingColumnError, match="learning_rate"):
        hyperparameters.fit([replace(run, learning_rate=None) for run in records])


def test_excluded_runs_are_listed(sweep, truth):
    records = sweep(0, truth(), shared=False)
    spoilt = [replace(records[0], status="failed"), replace(records[1], loss=float("nan")), *records[2:]]
    law = hyperparameters.fit(spoilt, draws=20)
    assert {each.run for each in law.runs_excluded} == {records[0].run_id, records[1].run_id}
    assert law.runs_used == len(records) - 2
