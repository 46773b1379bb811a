"""The advice on the page says what not knowing the best better could cost."""

import re
from dataclasses import replace

from orchestrator.laws.predict import Prediction
from orchestrator.laws.regret import Regret
from orchestrator.prediction_text import regret_text
from orchestrator.report.advice import advice_section
from orchestrator.report.data import ReportData


def test_each_target_has_its_cost_beside_it(sweep: ReportData):
    page = advice_section(sweep)
    (advice,) = sweep.advice
    assert advice.prediction.regrets
    for name, regret in advice.prediction.regrets.items():
        assert f"{name} {regret_text(regret)}" in re.sub(r"<[^>]+>", "", page)


def test_a_prediction_without_regrets_has_none(sweep: ReportData):
    (advice,) = sweep.advice
    bare = Prediction(quantities=advice.prediction.quantities)
    page = advice_section(replace(sweep, advice=(replace(advice, prediction=bare),)))
    assert "of loss" not in page


def test_regrets_are_written_with_their_compute_where_that_is_known():
    known = Regret(loss=0.001, loss_high=0.004, compute=0.01, compute_high=0.05)
    assert regret_text(known) == "0.1 % to 0.4 % of loss (1 % to 5 % of the compute)"
    assert regret_text(replace(known, compute=None)) == "0.1 % to 0.4 % of loss"
    assert regret_text(replace(known, loss=1e-6, loss_high=1e-5)).startswith("less than 0.02% of loss")
