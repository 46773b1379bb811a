"""Kaplan's frontier in C_min: what his L(N, S) and B_crit(L) imply comes back from runs at several batch sizes."""

import numpy as np
import pytest

from orchestrator.laws import kaplan_c
from orchestrator.laws import kaplan_consequences as consequences
from orchestrator.laws.least_compute import fit_least_compute
from orchestrator.laws.loss_points import loss_points
from orchestrator.laws.records import RunRecord
from search_spaces.errors import MissingColumnError

# Kaplan et al. 2020, tables 3 and 5.
PLANTED = {"alpha_N": 0.077, "alpha_S": 0.76, "N_c": 6.5e13, "S_c": 2.1e3, "alpha_B": 0.21, "B_star": 2.1e8}
TRUTH = {
    "alpha_C_min": float(consequences.compute_exponent(PLANTED)),
    "C_c_min": float(consequences.compute_constant(PLANTED)),
}


def loss_after(params, steps, batch_tokens):
    """The loss at which L(N, S_min) with S_min = S / (1 + B_crit(L) / B) agrees with itself, by bisection."""
    low, high = np.full(np.shape(steps), 0.5), np.full(np.shape(steps), 60.0)
    of_size = (PLANTED["N_c"] / params) ** PLANTED["alpha_N"]
    for _ in range(60):
        middle = (low + high) / 2
        critical = PLANTED["B_star"] * middle ** (-1 / PLANTED["alpha_B"])
        reached = of_size + (PLANTED["S_c"] * (1 + critical / batch_tokens) / steps) ** PLANTED["alpha_S"]
        low, high = np.where(reached > middle, middle, low), np.where(reached > middle, high, middle)
    return (low + high) / 2


def runs_at_batches(seed, *, noise=0.003, batches=(3e4, 1.2e5, 5e5, 2e6)):
    rng = np.random.default_rng(seed)
    records = []
    for params in np.geomspace(3e5, 1e8, 9):
        for batch in batches:
            luck = noise * rng.standard_normal()
            steps = np.geomspace(3e3, 1e5, 16)
            for step, loss in zip(steps, loss_after(params, steps, batch), strict=True):
                records.append(
                    RunRecord(
                        run_id=f"{params:.3g} {batch:.3g}",
                        params=float(params),
                        tokens=float(step * batch),
                        steps=float(step),
                        batch_tokens=float(batch),
                        learning_rate=1e-3,
                        schedule="constant",
                        loss=float(loss * np.exp(luck + noise / 5 * rng.standard_normal())),
                    )
                )
    return records


def test_the_planted_exponent_and_constant_come_back_beside_the_naive_ones():
    law = kaplan_c.fit(runs_at_batches(0, noise=0.001), draws=200)
    assert law.value("alpha_C_min") == pytest.approx(TRUTH["alpha_C_min"], rel=0.02)
    assert law.value("C_c_min") == pytest.approx(TRUTH["C_c_min"], rel=0.5)
    assert {len(column) for column in law.draws.values()} == {200}
    assert len(law.tables["least_compute"]) >= 6
    flops = law.tables["least_compute"][-1]["flops"]
    assert consequences.optimal_loss(PLANTED, flops) == pytest.approx(law.tables["least_compute"][-1]["loss"], rel=0.01)


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
