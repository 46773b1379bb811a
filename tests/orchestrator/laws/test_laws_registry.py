import time
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.registry import NAMES, fit_laws
from search_spaces.errors import InputError, MissingColumnError


def test_loss_laws_see_the_tuned_envelope(sweep, truth):
    planted = truth()
    report = fit_laws(sweep(0, planted), names=["hyperparameters", "chinchilla"], draws=100)
    law = report.laws["chinchilla"]
    assert law.value("alpha") == pytest.approx(0.3, abs=0.03)
    assert law.value("E") == pytest.approx(1.8, abs=0.15)
    assert law.runs_used == 6 * 16
    rows = report.laws["hyperparameters"].tables["optima"]
    floors = np.array([planted.floor(row["params"], row["tokens"]) for row in rows])
    fitted = np.array([row["loss"] for row in rows])
    assert np.abs(np.log(fitted / floors)).mean() < 0.8 * planted.noise


def test_every_law_is_fitted_or_says_why_not(sweep, truth):
    start = time.perf_counter()
    report = fit_laws(sweep(0, truth()), draws=200)
    assert set(report.laws) | set(report.not_fitted) == set(NAMES)
    assert all(report.not_fitted.values())
    assert time.perf_counter() - start < 20


def test_a_table_without_settings_still_gets_its_loss_laws(sweep, truth):
    records = [replace(run, learning_rate=None) for run in sweep(0, truth(), trials=1)]
    report = fit_laws(records, draws=50)
    assert "learning_rate" in report.not_fitted["hyperparameters"]
    assert "chinchilla" in report.laws
    with pytest.raises(MissingColumnError, match="learning_rate"):
        fit_laws(records, names=["hyperparameters"])


def test_an_unknown_law_is_refused_with_the_nearest(sweep, truth):
    with pytest.raises(InputError, match="no law 'chinchila'; did you mean 'chinchilla'"):
        fit_laws([], names=["chinchila"])
    with pytest.raises(InputError, match="confidence is 95"):
        fit_laws([], confidence=95)
