"""What Optuna is told and what it makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.proposals.coordinates import distributions, to_params, to_settings
from orchestrator.proposals.grid import grid_point
from orchestrator.proposals.proposer import OptunaProposer
from orchestrator.trial import Reason, Trial, TrialState
from search_spaces.axis import Fixed, LogUniform, OneMinusLog, PowersOfTwo
from search_spaces.errors import InputError
from search_spaces.plan import Search
from search_spaces.space import HyperParameters, SearchSpace

MakeTrial = Callable[..., Trial]
NEIGHBOUR = HyperParameters(learning_rate=0.005, batch_size=4, beta2=0.95)
SPACE = SearchSpace(learning_rate=LogUniform(1e-4, 3e-2), batch_size=PowersOfTwo(1, 64), beta2=OneMinusLog(0.9, 0.999))


def bowl(settings: HyperParameters) -> float:
    rate = math.log(settings.learning_rate / 3e-3)
    return 3 + 0.3 * rate**2 + 0.1 * math.log2(settings.batch_size / 8) ** 2


def run(proposer: OptunaProposer, search: Search, make_trial: MakeTrial, count: int, in_flight: int = 1):
    """Trials of a search with so many at a time; all told at the end."""
    trials: list[Trial] = []
    for number in range(count + in_flight):
        if number < count:
            proposal = proposer.ask(search, number, NEIGHBOUR)
            trials.append(make_trial(number, proposal.settings, proposal.reason))
            proposer.proposed(trials[-1], search)
        if (ended := number - in_flight + 1) >= 0 and ended < count:
            trial = trials[ended]
            trials[ended] = make_trial(ended, trial.settings, trial.reason, bowl(trial.settings))
            proposer.tell(trials[ended], search)
    return trials


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
@pytest.mark.parametrize("in_flight", [1, 2])
def test_most_trials_come_from_the_model(sampler, in_flight, small_search, make_trial):
    trials = run(OptunaProposer(sampler=sampler, seed=3), small_search, make_trial, 8, in_flight)
    assert [trial.reason for trial in trials] == [Reason.NEIGHBOUR] + [Reason.START_UP] * 2 + [Reason.MODEL] * 5


def test_the_neighbour_is_tried_first_and_once(small_search, make_trial):
    trials = run(OptunaProposer(sampler="tpe", seed=3), small_search, make_trial, 4)
    assert trials[0].settings == NEIGHBOUR
    assert NEIGHBOUR not in [trial.settings for trial in trials[1:]]


def test_the_centre_is_tried_first_without_a_neighbour(small_search):
    proposal = OptunaProposer(sampler="tpe", seed=3).ask(small_search, 0, None)
    assert proposal.settings == small_search.space.centre
    assert proposal.reason is Reason.START_UP


def test_no_model_is_claimed_while_nothing_is_measured(small_search, make_trial):
    trials = run(OptunaProposer(sampler="tpe", seed=3), small_search, make_trial, 6, in_flight=8)
    assert Reason.MODEL not in {trial.reason for trial in trials}


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_a_model_beats_random_search(sampler, small_search, make_trial):
    def late_mean(name: str) -> float:
        losses = [
            trial.loss
            for seed in range(1 if sampler == "gp" else 3)
            for trial in run(OptunaProposer(sampler=name, seed=seed), small_search, make_trial, 24)[-8:]
        ]
        return sum(losses) / len(losses)

    assert late_mean(sampler) < late_mean("random") - 0.2


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_a_sampler_without_history_ignores_losses(sampler, small_search, make_trial):
    orderly = run(OptunaProposer(sampler=sampler, seed=3), small_search, make_trial, 10, in_flight=1)
    jumbled = run(OptunaProposer(sampler=sampler, seed=3), small_search, make_trial, 10, in_flight=7)
    assert [trial.settings for trial in orderly] == [trial.settings for trial in jumbled]
    assert {trial.reason for trial in orderly} == {Reason.SAMPLER}


def test_the_study_says_what_was_told(small_search, make_trial):
    proposer = OptunaProposer(sampler="tpe", seed=3)
    told = [
        make_trial(0, loss=3.0),
        make_trial(1, loss=4.5),
        make_trial(2, loss=math.nan),
        make_trial(3, state=TrialState.FAILED),
        make_trial(4, state=TrialState.RUNNING),
    ]
    for trial in reversed(told):
        proposer.restore(trial, small_search)
    trials = proposer.study(small_search).trials
    states = optuna.trial.TrialState
    assert [trial.state for trial in trials] == [states.COMPLETE] * 3 + [states.FAIL, states.RUNNING]
    assert [trial.value for trial in trials[:2]] == [3.0, 4.5]
    assert trials[2].value == pytest.approx(6.0)  # above the worst by the spread
    assert [trial.user_attrs["trial_key"] for trial in trials] == [trial.key for trial in told]
    assert trials[0].user_attrs["reason"] == "model"


def test_divergence_keeps_the_model_away(small_search, make_trial):
    proposer = OptunaProposer(sampler="tpe", seed=0)
    for number in range(16):
        rate = 1e-4 * 300 ** (number / 15)
        loss = math.nan if rate > 2e-3 else 3 + number / 100
        settings = replace(small_search.space.centre, learning_rate=rate)
        proposer.tell(make_trial(number, settings, loss=loss), small_search)
    proposed = [proposer.ask(small_search, number, None).settings.learning_rate for number in range(16, 46)]
    assert sum(rate > 2e-3 for rate in proposed) <= 6


def test_fixed_settings_are_not_searched(small_search, make_trial):
    space = replace(small_search.space, batch_size=Fixed(16), beta2=Fixed(0.95))
    search = replace(small_search, space=space)
    trials = run(OptunaProposer(sampler="tpe", seed=3), search, make_trial, 6)
    assert {(trial.settings.batch_size, trial.settings.beta2) for trial in trials} == {(16, 0.95)}
    assert len({trial.settings.learning_rate for trial in trials}) == 6


def test_a_small_finite_space_is_used_up_before_a_point_comes_twice(small_search, make_trial):
    space = SearchSpace(learning_rate=Fixed(1e-3), batch_size=PowersOfTwo(1, 8), beta2=Fixed(0.95))
    trials = run(OptunaProposer(sampler="random", seed=3), replace(small_search, space=space), make_trial, 4)
    assert sorted(trial.settings.batch_size for trial in trials) == [1, 2, 4, 8]


def test_cmaes_needs_two_settings(small_search):
    space = replace(small_search.space, batch_size=Fixed(16), beta2=Fixed(0.95))
    proposer = OptunaProposer(sampler="cmaes", seed=0)
    with pytest.raises(InputError, match="at least two settings"):
        proposer.ask(replace(small_search, space=space), 0, None)


def test_an_unknown_sampler_is_named():
    with pytest.raises(InputError, match=r"'tpee'.*tpe, gp, cmaes, random, grid"):
        OptunaProposer(sampler="tpee", seed=0)


@given(rate=st.floats(1e-4, 3e-2), exponent=st.integers(0, 6), beta2=st.floats(0.9, 0.999))
def test_settings_survive_the_way_to_optuna_and_back(rate, exponent, beta2):
    settings = SPACE.at({"learning_rate": rate, "batch_size": 2.0**exponent, "beta2": beta2})
    params = to_params(SPACE, settings)
    assert all(distribution._contains(params[name]) for name, distribution in distributions(SPACE).items())
    assert to_settings(SPACE, params) == settings


@given(trials=st.integers(1, 60))
def test_a_grid_has_as_many_points_as_trials(trials, small_search):
    search = replace(small_search, trials=trials)
    assert len({grid_point(search, index) for index in range(trials)}) == trials


def test_a_grid_reaches_the_corners(small_search):
    search = replace(small_search, trials=12)
    points = [grid_point(search, index) for index in range(12)]
    assert {point.learning_rate for point in points} == {1e-4, 0.001732, 3e-2}
    assert {point.batch_size for point in points} == {1, 64}
    assert {point.beta2 for point in points} == {0.9, 0.999}
