import math
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws import joint
from orchestrator.laws.hyperparameters import find_optima, spaced_cells
from orchestrator.laws.joint_choice import choose, judge
from orchestrator.laws.joint_fit import curvature_of, joint_data
from orchestrator.laws.joint_form import Form
from orchestrator.laws.result import Status
from search_spaces.errors import FitError, MissingColumnError

BOTH = (("params", "tokens"),) * 3


def data_of(records):
    _, optima = find_optima(records)
    return joint_data(optima, spaced_cells(optima))


def test_planted_exponents_and_settings_come_back(sweep, truth):
    planted = truth()
    law = joint.fit(sweep(0, planted), draws=300)
    exponents = {
        "learning_rate": planted.learning_rate,
        "batch_tokens": planted.batch_tokens,
        "beta2_half_life": planted.half_life,
    }
    for name, (params, tokens) in exponents.items():
        found = law.parameters
        assert found[f"{name}.params_exponent"].low <= params <= found[f"{name}.params_exponent"].high, name
        assert found[f"{name}.tokens_exponent"].low <= tokens <= found[f"{name}.tokens_exponent"].high, name
    rate = law.value("learning_rate.coefficient") * 3e7 ** law.value("learning_rate.params_exponent")
    rate *= 6e8 ** law.value("learning_rate.tokens_exponent")
    assert math.log(rate) == pytest.approx(planted.optimum(3e7, 6e8)[0], abs=0.1)
    assert law.status is Status.OK
    assert set(law.draws) == set(law.parameters)
    rows = law.tables["held_out_regret"]
    assert [row["law"] for row in rows] == ["joint", "hyperparameters"]
    assert all(0 < row["held_out_regret"] < 0.002 for row in rows)
    assert sum(row["preferred"] for row in rows) == 1
    assert joint.preferred(law) == rows[0]["preferred"]


def test_the_surface_comes_back(sweep, truth):
    data = data_of(sweep(0, truth(noise=0.0005), shared=False))
    fit = judge(data, Form(terms=BOTH, window=0.1)).fit
    curvature, skew = curvature_of(fit, 3)
    assert curvature[0, 0] == pytest.approx(0.014, rel=0.1)
    assert curvature[1, 1] == pytest.approx(0.013, rel=0.1)
    assert skew == pytest.approx(0.8, abs=0.1)


def test_a_loss_law_for_the_floors_is_chosen_only_if_it_helps_and_then_has_its_parameters(sweep, truth):
    data = data_of(sweep(1, truth(noise=0.001), shared=False, ratios=(5.0, 10.0, 20.0, 40.0)))
    free, parametric = (judge(data, Form(terms=BOTH, window=0.05, parametric=way)) for way in (False, True))
    assert parametric.score == pytest.approx(free.score, rel=0.5)
    floors = np.exp(parametric.fit.tie.expand(parametric.fit.free)[: data.sizes.log_params.size])
    cells = [data.optima.cells[int(number)] for number in data.cells]
    expected = [truth().floor(cell.params, cell.tokens) for cell in cells]
    assert floors == pytest.approx(np.array(expected), rel=2e-3)


def test_a_law_that_is_not_in_the_data_costs_more_in_held_out_cells(sweep, truth):
    data = data_of(sweep(0, truth(), shared=False))
    full = judge(data, Form(terms=BOTH, window=0.05))
    without = judge(data, Form(terms=(("tokens",), *BOTH[1:]), window=0.05))
    assert without.score > 5 * full.score
    best, tried = choose(data, BOTH)
    assert best.score <= full.score
    assert any(not each.fit.form.skewed for each in tried)


def test_slopes_of_the_ties_are_those_of_what_they_expand(sweep, truth):
    data = data_of(sweep(0, truth(), shared=False))
    for parametric in (False, True):
        fit = judge(data, Form(terms=BOTH, window=0.05, parametric=parametric)).fit
        size = fit.tie.expand(fit.free).size
        moved = 1e-6 * np.eye(fit.free.size)
        numeric = [(fit.tie.expand(fit.free + step) - fit.tie.expand(fit.free - step)) / 2e-6 for step in moved]
        assert fit.tie.through(fit.free, np.eye(size)) == pytest.approx(np.array(numeric).T, abs=1e-5)


def test_too_few_scales_and_missing_columns_are_said(sweep, truth):
    with pytest.raises(FitError, match=r"joint.*at least 3 scales"):
        joint.fit(sweep(0, truth(), scales=2))
    with pytest.raises(MissingColumnError, match="learning_rate"):
        joint.fit([replace(run, learning_rate=None) for run in sweep(0, truth(), trials=4)])


def test_four_scales_are_weak(sweep, truth):
    law = joint.fit(sweep(0, truth(), scales=4), draws=50)
    assert law.status is Status.WEAK
    assert "4 scales" in law.reason
