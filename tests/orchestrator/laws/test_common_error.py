"""The error of loss that all cells share: in the draws, in the intervals, and so that these hold the truth."""

import math
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws import chinchilla, compute_only, frontier, kaplan_c, kaplan_d, kaplan_n, kaplan_nd, overtraining
from orchestrator.laws.common_error import CommonError, with_common_error
from orchestrator.laws.isoflop import NAME as ISOFLOP
from orchestrator.laws.predicted import normal_scores
from orchestrator.laws.records import RunRecord
from orchestrator.laws.registry import fit_laws
from orchestrator.laws.result import Estimate, FittedLaw

PLANTED = {"E": 1.8, "A": 126.0, "B": 189.0, "alpha": 0.3, "beta": 0.3}
ERROR = CommonError(stderr=0.01, quantile=1.96)
# A law's loss at a place that all of them know: params, tokens, and 6 N D.
N, D = 3e6, 6e7
LOSSES = {
    "chinchilla": (
        {"E": 1.8, "A": 126.0, "B": 189.0, "alpha": 0.3, "beta": 0.3},
        lambda p: chinchilla.loss(p, N, D),
    ),
    "overtraining": ({"E": 1.8, "a": 150.0, "b": 160.0, "eta": 0.15}, lambda p: overtraining.loss(p, 6 * N * D, D / N)),
    "frontier": ({"E": 1.8, "A": 400.0, "alpha": 0.15}, lambda p: frontier.loss(p, 6 * N * D)),
    "compute-only": ({"intercept": 20.0, "slope": 0.4}, lambda p: compute_only.loss(p, 6 * N * D)),
    "kaplan-n": ({"N_c": 8.8e13, "alpha_N": 0.076}, lambda p: kaplan_n.loss(p, N)),
    "kaplan-d": ({"D_c": 5.4e13, "alpha_D": 0.095}, lambda p: kaplan_d.loss(p, D)),
    "kaplan-c": ({"C_c": 2.7e27, "alpha_C": 0.057}, lambda p: kaplan_c.loss(p, 6 * N * D)),
    "kaplan-nd": (
        {"N_c": 8.8e13, "alpha_N": 0.076, "D_c": 5.4e13, "alpha_D": 0.095},
        lambda p: kaplan_nd.loss(p, N, D),
    ),
}


def fitted(name, values):
    """A law whose draws spread by a percent, with intervals to match."""
    rng = np.random.default_rng(0)
    draws = {key: value * np.exp(0.01 * rng.standard_normal(500)) for key, value in values.items()}
    parameters = {
        key: Estimate(value=value, low=0.98 * value, high=1.02 * value, stderr=0.01 * value)
        for key, value in values.items()
    }
    return FittedLaw(name=name, form="", parameters=parameters, draws=draws)


@pytest.mark.parametrize("name", LOSSES)
def test_every_draw_of_the_loss_moves_by_one_factor(name):
    values, loss = LOSSES[name]
    law = fitted(name, values)
    moved = with_common_error(law, ERROR)
    factor = np.exp(0.01 * normal_scores(500, 1))
    assert loss(moved.draws) == pytest.approx(loss(law.draws) * factor, rel=1e-9)
    for key, found in moved.parameters.items():
        known = law.parameters[key]
        assert found.value == known.value
        assert found.low <= known.low < known.high <= found.high
        assert found.stderr >= known.stderr


def test_the_interval_has_both_errors():
    values, _ = LOSSES["chinchilla"]
    found = with_common_error(fitted("chinchilla", values), ERROR).parameters
    assert math.log(found["A"].high / 126) == pytest.approx(math.hypot(math.log(1.02), 0.0196), rel=1e-9)
    assert found["A"].stderr == pytest.approx(126 * math.hypot(0.01, 0.01))
    assert (found["alpha"].low, found["alpha"].high) == (0.98 * 0.3, 1.02 * 0.3)


def test_an_interval_that_ends_at_zero_still_does():
    values, _ = LOSSES["chinchilla"]
    law = fitted("chinchilla", values)
    offset = Estimate(value=0.4, low=0.0, high=0.9, stderr=0.2)
    found = with_common_error(replace(law, parameters={**law.parameters, "E": offset}), ERROR).parameters["E"]
    assert found.low == 0.0
    assert found.high == pytest.approx(0.4 + math.hypot(0.5, 0.0196 * 0.4))


def test_a_law_that_no_loss_moves_stays_as_it_was():
    law = fitted(ISOFLOP, {"k": 0.1, "a": 0.5})
    assert with_common_error(law, ERROR) is law
    assert with_common_error(fitted("chinchilla", PLANTED), CommonError(stderr=0.0, quantile=2.0)).draws


def test_numbers_too_large_for_a_float_stay_finite():
    law = fitted("kaplan-n", {"N_c": 1e290, "alpha_N": 0.005})
    found = with_common_error(law, CommonError(stderr=0.5, quantile=1.96))
    assert np.isfinite(found.draws["N_c"]).all()
    assert math.isfinite(found.parameters["N_c"].high)


def test_coefficients_hold_the_truth_where_all_losses_are_wrong_together():
    inside = {"without": 0, "with": 0}
    sweeps = 36
    for seed in range(sweeps):
        law = chinchilla.fit(_wrong_together(seed), seed=seed, draws=200)
        for which, found in (("without", law), ("with", with_common_error(law, ERROR))):
            inside[which] += sum(_holds(found, name) for name in ("E", "A", "B"))
    assert inside["without"] < 0.6 * 3 * sweeps
    assert inside["with"] >= 0.86 * 3 * sweeps


def _wrong_together(seed):
    """A tuned envelope of 30 cells, each a run of its own, all losses too high or low by one part."""
    rng = np.random.default_rng(seed)
    factor = math.exp(ERROR.stderr * rng.standard_normal())
    cells = [(params, params * ratio) for params in 1e6 * 2.0 ** np.arange(6) for ratio in (5, 10, 20, 40, 80)]
    return [
        RunRecord(
            run_id=f"{params:g} {tokens:g}",
            params=params,
            tokens=tokens,
            loss=factor * float(chinchilla.loss(PLANTED, params, tokens)) * math.exp(2e-5 * rng.standard_normal()),
        )
        for params, tokens in cells
    ]


def _holds(law, name):
    return law.parameters[name].low <= PLANTED[name] <= law.parameters[name].high


def test_the_loss_at_the_middle_of_a_tuned_sweep_is_inside_its_interval(sweep, truth):
    """There the cells average to next to nothing, so that the error they share is what is left."""
    planted, inside, sweeps = truth(), 0, 10
    params, tokens = 1.2e6, 1.2e7
    for seed in range(sweeps):
        law = fit_laws(sweep(seed, planted), names=["chinchilla"], draws=200).laws["chinchilla"]
        low, high = np.quantile(chinchilla.loss(law.draws, params, tokens), [0.025, 0.975])
        inside += low <= planted.floor(params, tokens) <= high
    assert inside >= 0.8 * sweeps
