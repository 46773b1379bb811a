from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.laws import critical_batch
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Status
from search_spaces.errors import FitError, MissingColumnError

PUBLISHED = {"B_star": 2e8, "alpha_B": 0.21}


def planted_batch(kaplan, loss):
    return kaplan["B_star"] * loss ** (-1 / kaplan["alpha_B"])


def test_published_constants_give_the_published_batch_sizes():
    found = critical_batch.critical_batch(PUBLISHED, [6, 5, 4, 3.5, 3, 2.5])
    assert found == pytest.approx([3.94e4, 9.39e4, 2.72e5, 5.13e5, 1.07e6, 2.55e6], rel=2e-3)


@given(
    steps=st.floats(1, 1e6),
    batch=st.floats(1e2, 1e8),
    loss=st.floats(1.5, 11),
    alpha_B=st.floats(0.1, 1),
)
def test_steps_and_tokens_lie_on_the_hyperbola(steps, batch, loss, alpha_B):
    parameters = {"B_star": 2e8, "alpha_B": alpha_B}
    least_steps = critical_batch.least_steps(parameters, steps, batch, loss)
    least_tokens = critical_batch.least_tokens(parameters, steps * batch, batch, loss)
    critical = float(critical_batch.critical_batch(parameters, loss))
    assert least_tokens / least_steps == pytest.approx(critical)
    assert steps / least_steps == pytest.approx(1 + critical / batch)
    assert steps * batch / least_tokens == pytest.approx(1 + batch / critical)


def test_at_the_critical_batch_it_takes_twice_the_least_steps_tokens_and_compute():
    critical = critical_batch.critical_batch(PUBLISHED, 3.0)
    assert critical_batch.least_steps(PUBLISHED, 1000, critical, 3.0) == pytest.approx(500)
    assert critical_batch.least_flops(PUBLISHED, 8e18, critical, 3.0) == pytest.approx(4e18)


def test_formulas_take_draws():
    draws = {"B_star": np.full((7, 1), 2e8), "alpha_B": np.linspace(0.2, 0.3, 7)[:, None]}
    assert critical_batch.least_steps(draws, [10, 20, 30], 1e5, [5, 4, 3]).shape == (7, 3)


def test_the_planted_trade_off_is_recovered_at_each_level(curves, kaplan):
    law = critical_batch.fit(curves(batches=7, factor=2))
    assert law.status is Status.OK
    assert law.runs_used == 35
    assert law.value("alpha_B") == pytest.approx(0.21, abs=0.012)
    rows = law.tables["levels"]
    assert len(rows) > 40
    inside = 0
    for row in rows:
        above = row["loss"] - (kaplan["N_c"] / row["params"]) ** kaplan["alpha_N"]
        steps = kaplan["S_c"] * above ** (-1 / kaplan["alpha_S"])
        batch = planted_batch(kaplan, row["loss"])
        for name, planted in (("critical_batch", batch), ("least_steps", steps), ("least_tokens", batch * steps)):
            inside += row[f"{name}_low"] <= planted <= row[f"{name}_high"]
    assert inside > 0.86 * 3 * len(rows)


def test_one_size_is_enough(curves, kaplan):
    law = critical_batch.fit(curves(1, sizes=1, least=3e6, batches=8, factor=2))
    assert law.status is Status.OK
    assert law.parameters["alpha_B"].low < kaplan["alpha_B"] < law.parameters["alpha_B"].high
    assert {row["params"] for row in law.tables["readings"]} == {3e6}


def test_exact_curves_give_the_planted_parameters(curves, kaplan):
    law = critical_batch.fit(curves(noise=0.0, point_noise=0.0, points=40))
    assert law.value("alpha_B") == pytest.approx(kaplan["alpha_B"], rel=0.01)
    assert critical_batch.critical_batch({n: e.value for n, e in law.parameters.items()}, 4.0) == pytest.approx(
        planted_batch(kaplan, 4.0), rel=0.03
    )


def test_intervals_cover_the_planted_values(curves, kaplan):
    covered = []
    for sweep in range(40):
        law = critical_batch.fit(curves(sweep), draws=300, seed=sweep)
        own = law.parameters["alpha_B"]
        low, high = np.quantile(critical_batch.critical_batch(law.draws, 4.0), [0.025, 0.975])
        covered += [own.low <= kaplan["alpha_B"] <= own.high, low <= planted_batch(kaplan, 4.0) <= high]
    assert np.mean(covered) >= 0.88


def test_one_curve_that_is_not_tuned_moves_the_law_by_little(curves):
    records = curves(2, batches=7, factor=2, noise=0.001)
    spoilt = [replace(r, loss=r.loss * 1.06) if r.run_id == records[200].run_id else r for r in records]
    law = critical_batch.fit(spoilt)
    assert law.value("alpha_B") == pytest.approx(critical_batch.fit(records).value("alpha_B"), abs=0.002)


def test_the_same_seed_gives_the_same_draws(curves):
    first, again = (critical_batch.fit(curves(3), seed=5, draws=50) for _ in range(2))
    assert (first.draws["B_star"] == again.draws["B_star"]).all()


@pytest.mark.parametrize(
    ("design", "reason"),
    [
        ({"batches": 3, "factor": 1.5, "first": 2**16}, "span a factor of 2.25"),
        ({"first": 2**24}, "below all batch sizes"),
        ({"first": 2**5, "factor": 2}, "above all batch sizes"),
        ({"noise": 0.05}, "are they tuned"),
    ],
)
def test_curves_that_do_not_show_the_trade_off_are_weak(curves, design, reason):
    law = critical_batch.fit(curves(4, **design), draws=100)
    assert law.status is Status.WEAK
    assert reason in law.reason


def test_unusable_tables_are_refused_with_what_is_missing(curves):
    records = curves(5, sizes=2)
    with pytest.raises(MissingColumnError, match="batch_tokens"):
        critical_batch.fit([replace(record, batch_tokens=None) for record in records])
    with pytest.raises(FitError, match=r"3 batch sizes of one size \(there are 2\)"):
        critical_batch.fit(curves(5, batches=2))
    with pytest.raises(FitError, match="loss levels"):
        critical_batch.fit([replace(record, loss=3.0) for record in records])
    with pytest.raises(FitError, match="warmup and decay"):
        critical_batch.fit([replace(record, schedule="cosine") for record in records])
    with pytest.raises(FitError, match="no usable point"):
        critical_batch.fit([replace(record, warmup_tokens=record.tokens) for record in records])


@given(
    losses=st.lists(st.floats(1e-300, 1e300), min_size=24, max_size=24),
    batches=st.lists(st.sampled_from([1e-3, 64.0, 1e5, 1e30]), min_size=24, max_size=24),
)
def test_no_table_gives_a_traceback(losses, batches):
    records = [
        RunRecord(
            run_id=str(at // 4), params=1e6, tokens=1e6 * 2.0 ** (at % 4), batch_tokens=batches[at // 4], loss=loss
        )
        for at, loss in enumerate(losses)
    ]
    try:
        law = critical_batch.fit(records, draws=20)
    except FitError:
        return
    assert all(np.isfinite(estimate.value) for estimate in law.parameters.values())
