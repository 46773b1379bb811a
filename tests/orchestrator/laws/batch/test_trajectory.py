from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.laws import kaplan_ns, trajectory
from orchestrator.laws.result import Status
from search_spaces.errors import FitError

# 30 times the largest size of the planted sweeps, and a batch size between theirs.
UNSEEN, BATCH, STEPS = 1.8e9, 3.0 * 2**17, np.geomspace(300, 2e5, 40)


@given(
    params=st.floats(1e4, 1e13),
    steps=st.floats(1, 1e7),
    batch=st.floats(1, 1e9),
    alpha_B=st.floats(0.05, 2),
)
def test_the_loss_solves_its_equation(params, steps, batch, alpha_B):
    law = {"N_c": 6.5e13, "alpha_N": 0.077, "S_c": 2.1e3, "alpha_S": 0.76, "B_star": 2.1e8, "alpha_B": alpha_B}
    loss = float(trajectory.loss(law, params, steps, batch))
    waste = 1 + law["B_star"] / (batch * loss ** (1 / alpha_B))
    right = (law["N_c"] / params) ** law["alpha_N"] + (law["S_c"] / steps * waste) ** law["alpha_S"]
    assert loss == pytest.approx(right, rel=1e-8)
    assert trajectory.steps_to(law, params, loss, batch) == pytest.approx(steps, rel=1e-4)


def test_it_is_the_bisected_loss(kaplan, truth):
    params, steps, batch = np.meshgrid(np.geomspace(1e5, 1e11, 7), np.geomspace(10, 1e6, 9), np.geomspace(1e3, 1e8, 8))
    assert trajectory.loss(kaplan, params, steps, batch) == pytest.approx(truth(params, steps, batch), rel=1e-9)


def test_limits_are_kaplans_laws(kaplan):
    assert trajectory.loss(kaplan, 1e8, 1e4, np.inf) == pytest.approx(3.1082, abs=5e-5)
    assert trajectory.loss(kaplan, 1e8, 1e14, 1e6) == pytest.approx(float(trajectory.converged_loss(kaplan, 1e8)))
    assert np.isinf(trajectory.steps_to(kaplan, 1e6, 2.0, 1e6))


def test_formulas_take_draws(kaplan):
    draws = {name: np.full((5, 1), value) for name, value in kaplan.items()}
    losses = trajectory.loss(draws, 1e9, STEPS, BATCH)
    assert losses.shape == (5, STEPS.size)
    assert (np.diff(losses, axis=1) < 0).all()


def test_small_runs_give_every_step_of_a_large_one_at_an_unseen_batch(curves, kaplan, truth):
    law = trajectory.fit(curves(0, batches=6, factor=2.5))
    assert law.status is Status.OK
    for name, own in law.parameters.items():
        assert own.low <= kaplan[name] <= own.high
    planted = truth(UNSEEN, STEPS, BATCH)
    draws = {name: values[:, None] for name, values in law.draws.items()}
    low, high = np.quantile(trajectory.loss(draws, UNSEEN, STEPS, BATCH), [0.025, 0.975], axis=0)
    assert ((low <= planted) & (planted <= high)).all()
    assert (high / low < 1.06).all()
    values = {name: own.value for name, own in law.parameters.items()}
    assert trajectory.loss(values, UNSEEN, STEPS, BATCH) == pytest.approx(planted, rel=0.02)


def test_one_size_at_many_batches_and_the_others_at_one_is_enough(curves, kaplan):
    """The design of Su et al.: the critical batch does not depend on the size."""
    several = curves(1, sizes=6, batches=1, first=2**18, noise=0.003)
    scan = curves(2, sizes=1, least=1e7, batches=8, factor=2, noise=0.003)
    law = trajectory.fit(several + [replace(r, run_id=f"scan {r.run_id}") for r in scan if r.batch_tokens != 2**18])
    assert law.status is Status.OK
    for name, own in law.parameters.items():
        assert own.low <= kaplan[name] <= own.high


def test_intervals_cover_the_planted_parameters_and_the_unseen_losses(curves, kaplan, truth):
    planted = truth(UNSEEN, STEPS[[0, -1]], BATCH)
    of_parameters, of_losses = [], []
    for sweep in range(24):
        law = trajectory.fit(curves(sweep, noise=0.01), draws=300, seed=sweep)
        of_parameters += [own.low <= kaplan[name] <= own.high for name, own in law.parameters.items()]
        draws = {name: values[:, None] for name, values in law.draws.items()}
        low, high = np.quantile(trajectory.loss(draws, UNSEEN, STEPS[[0, -1]], BATCH), [0.025, 0.975], axis=0)
        of_losses += [*((low <= planted) & (planted <= high))]
    assert np.mean(of_parameters) >= 0.88
    assert np.mean(of_losses) >= 0.85


def test_all_at_once_is_narrower_than_in_stages(curves):
    records = curves(3, batches=6, factor=2.5)
    joint, staged = trajectory.fit(records, draws=300), kaplan_ns.fit(records, draws=300)
    spread = {law.name: np.std(law.draws["alpha_S"]) for law in (joint, staged)}
    assert spread["trajectory"] < spread["kaplan-ns"]
    assert joint.value("alpha_S") == pytest.approx(staged.value("alpha_S"), abs=3 * spread["kaplan-ns"])


def test_exact_curves_give_exact_parameters(curves, kaplan):
    law = trajectory.fit(curves(noise=0.0, point_noise=0.0), draws=50)
    for name, own in law.parameters.items():
        assert own.value == pytest.approx(kaplan[name], rel=1e-5)


def test_losses_that_follow_no_such_law_are_weak(curves):
    random = np.random.default_rng(0)
    noise = trajectory.fit([replace(record, loss=random.uniform(2, 8)) for record in curves(4)], draws=50)
    assert noise.status is Status.WEAK
    steep = trajectory.fit([replace(record, loss=np.exp(record.loss)) for record in curves(4)], draws=50)
    assert "are they tuned" in steep.reason


def test_losses_out_of_all_bounds_give_no_warning_and_no_false_confidence(curves):
    law = trajectory.fit([replace(record, loss=record.loss * 1e-8) for record in curves(5)], draws=50)
    assert law.status is Status.WEAK
    assert all(np.isfinite(own.value) for own in law.parameters.values())


def test_few_sizes_or_batches_are_refused(curves):
    with pytest.raises(FitError, match="at least 3 sizes"):
        trajectory.fit(curves(sizes=2))
    with pytest.raises(FitError, match="at least 3 batch sizes"):
        trajectory.fit(curves(batches=2))
