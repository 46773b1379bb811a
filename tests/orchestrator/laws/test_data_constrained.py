"""Muennighoff's law: forward checks against the paper, planted truth, coverage, and poor tables."""

from dataclasses import replace

import numpy as np
import pytest
from planted_tables import MUENNIGHOFF as PLANTED
from planted_tables import repeated_runs

from orchestrator.laws import chinchilla, data_constrained
from orchestrator.laws.records import RunRecord
from orchestrator.laws.repeated_tokens import optimal_params_for, saturated
from orchestrator.laws.result import Status
from search_spaces.errors import FitError, MissingColumnError


def test_the_optimal_params_are_the_papers_part_of_the_tokens_and_where_chinchilla_has_them():
    assert float(optimal_params_for(PLANTED, 1e9)) == pytest.approx(0.051e9, rel=0.01)
    flops = 1e20
    params, tokens = chinchilla.optimal_params(PLANTED, flops), chinchilla.optimal_tokens(PLANTED, flops)
    assert float(optimal_params_for(PLANTED, tokens)) == pytest.approx(float(params))


def test_up_to_four_epochs_are_worth_nearly_as_much_as_new_tokens():
    worth = data_constrained.effective_tokens(PLANTED, [2e9, 4e9, 40e9, 1e15], 1e9) / 1e9
    assert worth[:2] == pytest.approx([2.0, 4.0], rel=0.08)
    assert worth[2] < 17
    assert worth[3] == pytest.approx(1 + PLANTED["R_D"])
    four, fresh = (float(data_constrained.loss(PLANTED, 4e7, 4e9, unique)) for unique in (1e9, 4e9))
    assert 0 < four / fresh - 1 < 0.01
    forty = float(data_constrained.loss(PLANTED, 4e7, 40e9, 1e9) / data_constrained.loss(PLANTED, 4e7, 40e9, 40e9))
    assert forty - 1 > 0.03


def test_new_tokens_for_few_enough_params_are_chinchilla():
    assert float(data_constrained.loss(PLANTED, 1e7, 1e9, 1e9)) == pytest.approx(
        float(chinchilla.loss(PLANTED, 1e7, 1e9))
    )


def test_effective_counts_rise_and_never_beyond_the_counts():
    counts = np.geomspace(1, 1e6, 50)
    worth = saturated(counts, 10.0, 5.0)
    assert (np.diff(worth) >= 0).all()
    assert (worth <= counts * (1 + 1e-12)).all()
    assert worth[0] == pytest.approx(1.0)


def test_exact_losses_give_the_published_parameters():
    law = data_constrained.fit(repeated_runs(0, noise=0.0), draws=10)
    for name, value in PLANTED.items():
        assert law.value(name) == pytest.approx(value, rel=1e-4), name
        assert law.tables["tied"][0][name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("curves", [False, True])
def test_planted_parameters_come_back_from_noisy_runs(curves):
    law = data_constrained.fit(repeated_runs(0, curves=curves), draws=100)
    assert law.status is Status.OK
    assert law.value("R_D") == pytest.approx(PLANTED["R_D"], rel=0.15)
    assert law.value("R_N") == pytest.approx(PLANTED["R_N"], rel=0.3)
    assert law.tables["tied"][0]["objective"] >= law.objective - 1e-9
    assert law.tables["tied"][0]["alpha"] == law.tables["tied"][0]["beta"]
    assert law.valid["epochs"] == pytest.approx((1.0, 80.0))


def test_intervals_cover_the_planted_parameters():
    sweeps = 12
    inside = 0
    for sweep in range(sweeps):
        records = repeated_runs(sweep, sizes=5, noise=0.005, unique=(1e8, 1e9))
        law = data_constrained.fit(records, draws=60, seed=sweep)
        inside += sum(law.parameters[name].low <= PLANTED[name] <= law.parameters[name].high for name in PLANTED)
    assert inside / (sweeps * len(PLANTED)) >= 0.86


def test_slopes_are_those_of_the_formula():
    fit = data_constrained.free_fit(data_constrained.repeated_points(repeated_runs(1)))
    theta = fit.best.theta + 0.01
    step = 1e-6 * np.eye(7)
    for at, slope in enumerate(fit.curve.slopes(theta)[0]):
        moved = fit.curve.formula(theta + step[[at]])[0] - fit.curve.formula(theta - step[[at]])[0]
        assert slope == pytest.approx(moved / 2e-6, abs=1e-8)


def test_few_epochs_do_not_tell_how_repetition_saturates():
    records = [r for r in repeated_runs(3, noise=0.01) if r.unique_tokens is None or r.tokens <= 2.1 * r.unique_tokens]
    law = data_constrained.fit(records, draws=60)
    assert law.status is Status.WEAK
    assert "R_D" in law.reason


def test_badly_tuned_runs_of_a_cell_do_not_count():
    records = [replace(r, learning_rate=1e-3, run_id=f"{r.run_id} best") for r in repeated_runs(0)]
    worse = [replace(r, learning_rate=1e-2, run_id=f"{r.run_id} worse", loss=1.1 * r.loss) for r in records]
    law = data_constrained.fit([*records, *worse], draws=10)
    assert law.runs_used == len(records)
    assert law.value("R_D") == pytest.approx(PLANTED["R_D"], rel=0.15)


def test_runs_without_repetition_are_refused_and_the_column_is_named():
    records = repeated_runs(0)
    with pytest.raises(FitError, match="epochs or more"):
        data_constrained.fit([replace(record, unique_tokens=record.tokens) for record in records])
    with pytest.raises(MissingColumnError, match="'unique_tokens'"):
        data_constrained.fit([replace(record, unique_tokens=None) for record in records])


def test_a_broken_number_of_unique_tokens_is_left_out_with_the_reason():
    broken = RunRecord(run_id="broken", params=1e7, tokens=1e9, loss=3.0, unique_tokens=-5.0)
    law = data_constrained.fit([*repeated_runs(0), broken], draws=10)
    assert [(e.run, e.reason) for e in law.runs_excluded] == [
        ("broken", "unique_tokens is -5, not a positive finite number")
    ]


def test_flat_losses_are_weak():
    records = [replace(record, loss=3.0) for record in repeated_runs(0)]
    assert data_constrained.fit(records, draws=10).status is Status.WEAK
