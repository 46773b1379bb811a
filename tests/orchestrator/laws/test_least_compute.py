"""Kaplan's frontier in C_min: what his L(N, S) and B_crit(L) imply comes back from runs at several batch sizes."""

import pytest
from planted_batches import KAPLAN, runs_at_batches

from orchestrator.laws import kaplan_c
from orchestrator.laws import kaplan_consequences as consequences
from orchestrator.laws.least_compute import fit_least_compute
from orchestrator.laws.loss_points import loss_points
from orchestrator.laws.records import RunRecord
from search_spaces.errors import MissingColumnError

TRUTH = {
    "alpha_C_min": float(consequences.compute_exponent(KAPLAN)),
    "C_c_min": float(consequences.compute_constant(KAPLAN)),
}


def test_the_planted_exponent_and_constant_come_back_beside_the_naive_ones():
    law = kaplan_c.fit(runs_at_batches(0, noise=0.001), draws=200)
    assert law.value("alpha_C_min") == pytest.approx(TRUTH["alpha_C_min"], rel=0.02)
    assert law.value("C_c_min") == pytest.approx(TRUTH["C_c_min"], rel=0.5)
    assert {len(column) for column in law.draws.values()} == {200}
    assert len(law.tables["least_compute"]) >= 6
    flops = law.tables["least_compute"][-1]["flops"]
    assert consequences.optimal_loss(KAPLAN, flops) == pytest.approx(law.tables["least_compute"][-1]["loss"], rel=0.01)


def test_intervals_cover_what_is_planted():
    held, sweeps = 0, 12
    for seed in range(sweeps):
        runs = runs_at_batches(seed)
        found = fit_least_compute(runs, loss_points(runs, law="test"), confidence=0.95, seed=seed, draws=100)
        held += sum(found.parameters[name].low <= value <= found.parameters[name].high for name, value in TRUTH.items())
    assert held / (2 * sweeps) >= 0.75


def test_one_batch_size_gives_no_critical_batch_and_the_table_says_so():
    law = kaplan_c.fit(runs_at_batches(0, batches=(5e5,)), draws=50)
    assert set(law.parameters) == {"alpha_C", "C_c"}
    assert "batch sizes" in law.tables["least_compute"][0]["reason"]


def test_without_batch_sizes_the_missing_column_is_said():
    bare = [RunRecord(run_id=r.run_id, params=r.params, tokens=r.tokens, loss=r.loss) for r in runs_at_batches(0)]
    with pytest.raises(MissingColumnError):
        fit_least_compute(bare, loss_points(bare, law="test"), confidence=0.95, seed=0, draws=10)
    assert "batch_tokens" in kaplan_c.fit(bare, draws=10).tables["least_compute"][0]["reason"]
