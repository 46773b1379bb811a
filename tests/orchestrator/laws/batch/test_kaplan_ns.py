from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.laws import kaplan_ns
from orchestrator.laws.result import Status
from search_spaces.errors import FitError, MissingColumnError

TABLE_3 = {"N_c": 6.5e13, "alpha_N": 0.077, "S_c": 2.1e3, "alpha_S": 0.76}


def test_published_constants_give_the_check_value():
    assert kaplan_ns.loss(TABLE_3, 1e8, 1e4) == pytest.approx(3.1082, abs=5e-5)


@given(params=st.floats(1e5, 1e12), steps=st.floats(10, 1e6))
def test_steps_to_a_loss_invert_the_loss(params, steps):
    reached = kaplan_ns.loss(TABLE_3, params, steps)
    assert kaplan_ns.least_steps_to(TABLE_3, params, reached) == pytest.approx(steps, rel=1e-6)


def test_a_loss_that_a_size_never_reaches_takes_for_ever():
    assert np.isinf(kaplan_ns.least_steps_to(TABLE_3, [1e6, 1e6], [1.0, kaplan_ns.loss(TABLE_3, 1e6, np.inf)])).all()


def test_planted_parameters_are_recovered(curves, kaplan):
    law = kaplan_ns.fit(curves(0, batches=6, factor=2.5))
    assert law.status is Status.OK
    assert set(law.parameters) == {"alpha_N", "alpha_S", "N_c", "S_c"}
    assert law.value("alpha_N") == pytest.approx(kaplan["alpha_N"], abs=0.005)
    assert law.value("alpha_S") == pytest.approx(kaplan["alpha_S"], abs=0.02)
    assert law.value("S_c") == pytest.approx(kaplan["S_c"], rel=0.06)
    assert max(abs(row["mean_error"]) for row in law.tables["curves"]) < 0.02


def test_intervals_cover_the_planted_values(curves, kaplan):
    covered = []
    for sweep in range(20):
        law = kaplan_ns.fit(curves(sweep), draws=300, seed=sweep)
        covered += [own.low <= kaplan[name] <= own.high for name, own in law.parameters.items()]
    assert np.mean(covered) >= 0.88


def test_the_form_says_which_parameters_are_counted(curves):
    records = [replace(r, non_embedding_params=r.params, params=1.3 * r.params) for r in curves(1)]
    law = kaplan_ns.fit(records, draws=50)
    assert law.form == "(N_c / non_embedding_params)^alpha_N + (S_c / least_steps)^alpha_S"
    assert law.valid["non_embedding_params"] == pytest.approx((1e6, 6e7))
    assert law.value("N_c") == pytest.approx(kaplan_ns.fit(curves(1), draws=50).value("N_c"))


def test_three_sizes_are_weak_and_two_are_refused(curves):
    law = kaplan_ns.fit(curves(2, sizes=3), draws=50)
    assert law.status is Status.WEAK
    assert "only 3 scales" in law.reason
    with pytest.raises(FitError, match="at least 3 sizes"):
        kaplan_ns.fit(curves(2, sizes=2))
    with pytest.raises(MissingColumnError, match="batch_tokens"):
        kaplan_ns.fit([replace(record, batch_tokens=None) for record in curves(2)])
