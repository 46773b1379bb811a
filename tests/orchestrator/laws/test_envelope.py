"""The envelope law on curves of a planted surface: what it estimates, its bias, and when it says that it is weak."""

import numpy as np
import pytest

from orchestrator.laws import chinchilla, envelope
from orchestrator.laws.loss_points import loss_points
from orchestrator.laws.lower_envelope import SizeCurves
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Status
from orchestrator.laws.size_curves import size_curves
from search_spaces.errors import FitError, MissingColumnError

PLANTED = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
EXPONENT = 0.37 / 0.72


def curve_runs(rng, *, scales=10, noise=0.003, runs=1, ratios=(1, 200), schedule="constant"):
    """Training curves, read at 15 token counts; a run's luck is shared along its curve."""
    records = []
    for params in np.geomspace(2e6, 3e8, scales):
        for run in range(runs):
            luck = noise * rng.standard_normal()
            for tokens in params * np.geomspace(*ratios, 15):
                own = luck + noise / 5 * rng.standard_normal()
                loss = float(chinchilla.loss(PLANTED, params, tokens) * np.exp(own))
                name = f"{params:.4g}/{run}"
                records.append(RunRecord(run_id=name, params=params, tokens=tokens, loss=loss, schedule=schedule))
    return records


def estimate(records):
    """The law's point estimate of `a`, without its samples."""
    curves = SizeCurves.of(loss_points(records, law="envelope"))
    return float(curves.envelope(curves.places(600), np.zeros((1, len(curves.points.loss)))).laws()["a"][0])


def test_a_planted_exponent_comes_back_less_the_bias_that_is_reported():
    law = envelope.fit(curve_runs(np.random.default_rng(0)), draws=300)
    (row,) = law.tables["design_bias"]
    assert law.status is Status.OK
    assert row["of_surface"] == pytest.approx(EXPONENT, abs=0.01)
    assert row["unbiased"] == pytest.approx(EXPONENT, abs=0.015)
    assert row["bias"] < 0
    assert law.value("a") + law.value("b") == pytest.approx(1, abs=1e-6)


def test_steps_flatten_the_line_by_the_square_of_their_number():
    """Least squares through m even steps of slope 1 has slope 1 - 1/m^2: the bias without noise and ends."""
    law = envelope.fit(curve_runs(np.random.default_rng(0), noise=0.0, ratios=(0.3, 1000)), draws=10)
    steps = sum(row["used"] for row in law.tables["steps"])
    assert steps == 8
    assert law.value("a") / EXPONENT == pytest.approx(1 - 1 / steps**2, abs=0.01)


def test_intervals_cover_what_the_law_estimates():
    expected = np.mean([estimate(curve_runs(np.random.default_rng(1000 + at), noise=0.005)) for at in range(80)])
    covered = 0
    for sweep in range(36):
        law = envelope.fit(curve_runs(np.random.default_rng(sweep), noise=0.005), draws=100, seed=sweep)
        covered += law.parameters["a"].low <= expected <= law.parameters["a"].high
    assert covered >= 31


def test_the_formulas_follow_the_steps():
    law = envelope.fit(curve_runs(np.random.default_rng(1)), draws=50)
    values = {name: found.value for name, found in law.parameters.items()}
    for row in law.tables["steps"]:
        if row["used"]:
            middle = np.sqrt(row["flops_from"] * row["flops_to"])
            assert envelope.optimal_params(values, middle) == pytest.approx(row["params"], rel=0.2)
    assert envelope.optimal_tokens(law.draws, 1e18).shape == law.draws["a"].shape


def test_the_smallest_and_the_largest_size_are_steps_that_do_not_count():
    law = envelope.fit(curve_runs(np.random.default_rng(2)), draws=50)
    steps = law.tables["steps"]
    assert not steps[0]["used"]
    assert not steps[-1]["used"]
    assert steps[0]["params"] == pytest.approx(2e6)
    assert steps[-1]["params"] == pytest.approx(3e8)


def test_a_step_that_ends_where_a_curve_does_is_left_out():
    records = curve_runs(np.random.default_rng(3), noise=0.0)
    size = sorted({record.params for record in records})[4]
    cut = [record for record in records if record.params != size or record.tokens < 30 * size]
    whole, part = (envelope.fit(table, draws=20).tables["steps"] for table in (records, cut))
    assert [row["used"] for row in whole if row["params"] == pytest.approx(size)] == [True]
    assert [row["used"] for row in part if row["params"] == pytest.approx(size)] == [False]
    assert sum(row["used"] for row in part) < sum(row["used"] for row in whole)


def test_the_inside_of_decaying_runs_makes_the_law_weak():
    law = envelope.fit(curve_runs(np.random.default_rng(4), schedule="cosine"), draws=50)
    assert law.status is Status.WEAK
    assert "still decaying" in law.reason


def test_two_sizes_are_refused():
    with pytest.raises(FitError, match="at least 4 sizes with two points or more"):
        envelope.fit(curve_runs(np.random.default_rng(5), scales=2))


def test_single_runs_at_single_points_are_refused():
    records = [
        RunRecord(run_id=str(at), params=params, tokens=20 * params, loss=4 - 0.3 * at)
        for at, params in enumerate(np.geomspace(1e6, 1e9, 6))
    ]
    with pytest.raises(FitError, match="sizes with two points or more"):
        envelope.fit(records)


def test_a_missing_column_is_named():
    with pytest.raises(MissingColumnError, match="'tokens'"):
        envelope.fit([RunRecord(run_id="a", params=1e6, loss=3.0)])


def test_the_lowest_of_several_runs_counts_at_each_compute():
    falling = [("early", (4.0, 3.5, 3.4)), ("late", (4.2, 3.6, 3.1))]
    records = [
        RunRecord(run_id=name, params=1e6, tokens=tokens, loss=loss, schedule="constant")
        for name, losses in falling
        for tokens, loss in zip((1e7, 1e8, 1e9), losses, strict=True)
    ]
    (curve,) = size_curves(loss_points(records, law="envelope"))
    assert curve.units[0] == "early"
    assert curve.units[-1] == "late"
    assert curve.loss[0] == pytest.approx(4.0)
    assert curve.loss[-1] == pytest.approx(3.1)
    assert (np.diff(curve.loss) < 0).all()
    assert curve.flops == pytest.approx(6e6 * curve.tokens)


def test_ends_of_single_runs_make_a_curve_of_their_size():
    records = [
        RunRecord(run_id=f"{tokens:g}", params=1e6, tokens=tokens, loss=loss, schedule="cosine")
        for tokens, loss in ((1e9, 3.1), (1e7, 4.0), (1e8, 3.5))
    ]
    (curve,) = size_curves(loss_points(records, law="envelope"))
    assert curve.loss.tolist() == [4.0, 3.5, 3.1]
    assert curve.units == ("1e+07", "1e+08", "1e+09")
