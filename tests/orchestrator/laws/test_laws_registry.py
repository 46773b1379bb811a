import math
import time
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws import data_constrained
from orchestrator.laws.records import RunRecord
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
    assert time.perf_counter() - start < 40


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


def test_laws_of_curves_see_the_curves_and_the_others_do_not(sweep, truth):
    whole = sweep(0, truth())
    last = {run.run_id: run for run in whole}
    names = ["kaplan-c", "envelope", "chinchilla"]
    alone = fit_laws(list(last.values()), names=names, draws=50)
    beside = fit_laws(list(last.values()), curves=whole, names=names, draws=50)
    assert "envelope" in alone.not_fitted
    assert beside.laws["envelope"].value("a") == pytest.approx(0.5, abs=0.1)
    assert alone.laws["chinchilla"].parameters == beside.laws["chinchilla"].parameters
    assert "alpha_C_min" not in alone.laws["kaplan-c"].parameters
    assert "alpha_C_min" in beside.laws["kaplan-c"].parameters


def test_the_law_of_compute_reads_its_critical_batch_beside_the_envelope(sweep, truth):
    law = fit_laws(sweep(0, truth()), names=["kaplan-c"], draws=50).laws["kaplan-c"]
    assert "alpha_C_min" in law.parameters
    assert law.runs_used == 6 * 16


def test_what_the_envelope_leaves_out_is_said_without_optima_too(sweep, truth):
    runs = sweep(0, truth(), trials=2, shared=False)
    broken = [replace(run, loss=float("nan")) if place == 0 else run for place, run in enumerate(runs)]
    law = fit_laws(broken, names=["chinchilla"], draws=20).laws["chinchilla"]
    assert broken[0].run_id in {excluded.run for excluded in law.runs_excluded}
    assert law.runs_used == len(runs) - 1


def repeated(epochs):
    """Five sizes on new tokens at three splits, and on 1e8 tokens seen so many times; no settings."""
    rng = np.random.default_rng(0)
    planted = {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.353, "beta": 0.353, "R_D": 15.4, "R_N": 5.3}
    records = []
    for params in np.geomspace(1e7, 1e9, 5):
        runs = [(ratio * params, ratio * params) for ratio in (10, 40, 160)] + [(times * 1e8, 1e8) for times in epochs]
        for tokens, unique in runs:
            exact = data_constrained.loss(planted, params, tokens, unique)
            records.append(
                RunRecord(
                    run_id=str(len(records)),
                    params=float(params),
                    tokens=float(tokens),
                    unique_tokens=float(unique),
                    loss=float(exact) * math.exp(0.001 * rng.standard_normal()),
                )
            )
    return records


def test_runs_that_repeated_their_tokens_often_are_left_out_of_laws_of_new_ones():
    records = repeated([10, 30, 100])
    report = fit_laws(records, names=["chinchilla", "data-constrained"], draws=100)
    law = report.laws["chinchilla"]
    assert law.value("E") == pytest.approx(1.87, abs=0.1)
    assert law.value("beta") == pytest.approx(0.353, abs=0.03)
    assert len(law.runs_excluded) == 15
    assert all("data-constrained" in excluded.reason for excluded in law.runs_excluded)
    assert not report.laws["data-constrained"].runs_excluded
    assert report.laws["data-constrained"].value("R_D") == pytest.approx(15.4, rel=0.4)


def test_a_few_epochs_are_as_good_as_new_tokens():
    law = fit_laws(repeated([1, 2, 4]), names=["chinchilla"], draws=20).laws["chinchilla"]
    assert not law.runs_excluded


def test_where_every_run_repeats_its_tokens_laws_of_new_ones_say_so():
    often = [run for run in repeated([10, 30, 100]) if run.tokens > run.unique_tokens]
    report = fit_laws(often, draws=20)
    assert "every run repeats its own" in report.not_fitted["chinchilla"]
    assert "kaplan-d" in report.laws or "converge" not in report.not_fitted["kaplan-d"]
