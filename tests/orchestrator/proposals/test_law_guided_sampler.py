"""The law-guided sampler by Optuna's plain interface, on planted laws."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from orchestrator.laws.records import RunRecord
from orchestrator.proposals import LawGuidedSampler
from orchestrator.trial import Reason
from search_spaces.errors import InputError

SPACE = {
    "learning_rate": FloatDistribution(1e-4, 3e-2, log=True),
    "batch_tokens": FloatDistribution(2.0**12, 2.0**20, log=True),
    "beta2": FloatDistribution(0.9, 0.9999),
}
CURVATURE = np.array([[0.014, -0.005, 0.0], [-0.005, 0.013, 0.001], [0.0, 0.001, 0.003]])


class Planted:
    """Power laws of the best settings; `factor` moves the best learning rate of a cell off its law."""

    def __init__(self, noise=0.001, factor=1.0):
        self.noise, self.factor = noise, factor

    def optimum(self, params, factor=1.0):
        size = math.log(params / 1e7)
        batch = math.log(2**15) + 0.5 * size
        return np.array([math.log(4e-3 * factor) - 0.3 * size, batch, math.log(2**15 * 60) + 0.4 * size - batch])

    def regret(self, params, settings, factor=1.0):
        place = np.log(
            [
                settings["learning_rate"],
                settings["batch_tokens"],
                -math.log(2) / math.log(settings.get("beta2", 0.99)),
            ]
        )
        offset = place - self.optimum(params, factor)
        if "beta2" not in settings:
            offset[2] = 0.0
        offset[0] = np.sign(offset[0]) * math.sqrt(2 * (math.expm1(0.6 * offset[0]) - 0.6 * offset[0])) / 0.6
        return float(0.5 * offset @ CURVATURE @ offset)

    def loss(self, params, settings, rng, factor=1.0):
        return 3 * (params / 1e7) ** -0.1 * math.exp(self.regret(params, settings, factor) + self.noise * rng.normal())


def draw(rng, space=SPACE):
    return {
        name: 1 - math.exp(rng.uniform(math.log(1 - each.high), math.log(1 - each.low)))
        if name == "beta2"
        else math.exp(rng.uniform(math.log(each.low), math.log(each.high)))
        for name, each in space.items()
    }


def history(planted, sizes=(1e7, 2e7, 4e7), trials=20, seed=0, space=SPACE):
    """Runs in several cells, as a search around the optimum leaves them."""
    rng = np.random.default_rng(seed)
    records = []
    for params in sizes:
        for number in range(trials):
            settings = draw(rng, space)
            loss = planted.loss(params, settings, rng)
            records.append(
                RunRecord(run_id=f"{params}-{number}", params=params, tokens=20 * params, loss=loss, **settings)
            )
    return records


def study_of(records, params, seed=0):
    sampler = LawGuidedSampler(params=params, tokens=20 * params, history=records, seed=seed)
    return optuna.create_study(sampler=sampler)


def search(study, planted, params, count, *, factor=1.0, space=SPACE):
    """Ask and tell; the trials' reasons and regrets."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(count):
        trial = study.ask(space)
        study.tell(trial, planted.loss(params, trial.params, rng, factor))
        found.append((study.trials[trial.number].user_attrs["reason"], planted.regret(params, trial.params, factor)))
    return found


def test_the_first_trial_of_a_new_cell_is_the_laws_optimum_and_nearly_the_best():
    planted = Planted()
    study = study_of(history(planted), 1.6e8)
    (first, *rest) = search(study, planted, 1.6e8, 4)
    assert first[0] == Reason.PREDICTED
    assert first[1] < 0.0025
    assert {reason for reason, _ in rest} == {Reason.REFINE}
    assert planted.regret(1.6e8, study.sampler.recommend(study)) < 0.0010


def test_two_settings_are_enough_and_the_third_is_left_alone():
    planted = Planted()
    space = {name: SPACE[name] for name in ("learning_rate", "batch_tokens")}
    study = study_of(history(planted, space=space), 8e7)
    found = search(study, planted, 8e7, 3, space=space)
    assert all(set(trial.params) == set(space) for trial in study.trials)
    assert found[0][1] < 0.0025


def test_without_history_it_searches_from_the_middle():
    planted = Planted()
    study = study_of([], 1e7)
    found = search(study, planted, 1e7, 12)
    assert found[0][0] == Reason.START_UP
    middle = {"learning_rate": math.sqrt(3e-6), "batch_tokens": 2.0**16}
    assert {name: study.trials[0].params[name] for name in middle} == pytest.approx(middle)
    assert {reason for reason, _ in found[1:]} == {Reason.MODEL}
    assert study.best_value < study.trials[0].value


def test_many_trials_asked_at_once_are_not_copies():
    study = study_of(history(Planted()), 8e7)
    asked = [study.ask(SPACE).params for _ in range(64)]
    places = {(round(math.log(p["learning_rate"]), 3), round(math.log(p["batch_tokens"]), 3)) for p in asked}
    assert len(places) > 12
    worst = max(Planted().regret(8e7, params) for params in asked)
    assert worst < 0.1  # none is wasted far away


def test_a_cell_that_contradicts_the_laws_is_searched_without_them():
    planted = Planted()
    study = study_of(history(planted), 8e7)
    found = search(study, planted, 8e7, 12, factor=5.0)
    reasons = [reason for reason, _ in found]
    assert Reason.FALLBACK in reasons[:5]
    assert planted.regret(8e7, study.sampler.recommend(study), factor=5.0) < 0.002


def test_an_optimum_beyond_the_space_is_probed_at_its_edge():
    planted = Planted()
    space = SPACE | {"learning_rate": FloatDistribution(1e-4, 1e-3, log=True)}
    study = study_of(history(planted), 8e7)
    found = search(study, planted, 8e7, 4, space=space)
    assert Reason.EDGE in {reason for reason, _ in found}
    assert study.trials[0].params["learning_rate"] == pytest.approx(1e-3)


def test_a_diverged_trial_bounds_the_learning_rate():
    planted = Planted()
    study = study_of(history(planted), 8e7)
    first = study.ask(SPACE)
    study.tell(first, math.inf)
    second = study.ask(SPACE)
    assert second.params["learning_rate"] <= first.params["learning_rate"] / 1.99


def test_batches_stay_among_the_choices():
    planted = Planted()
    choices = [2**exponent for exponent in range(12, 21)]
    for distribution in (CategoricalDistribution(choices), IntDistribution(2**12, 2**20, step=2**12)):
        space = SPACE | {"batch_tokens": distribution}
        study = study_of(history(planted), 8e7)
        search(study, planted, 8e7, 3, space=space)
        for trial in study.trials:
            assert distribution._contains(distribution.to_internal_repr(trial.params["batch_tokens"]))


def test_a_proposal_is_a_function_of_study_history_and_seed():
    planted = Planted()
    records = history(planted)
    first, again = (study_of(records, 8e7) for _ in range(2))
    assert search(first, planted, 8e7, 5) == search(again, planted, 8e7, 5)
    restarted = optuna.create_study(
        sampler=LawGuidedSampler(params=8e7, tokens=20 * 8e7, history=lambda: iter(records), seed=0)
    )
    restarted.add_trials(first.trials)
    assert restarted.ask(SPACE).params == first.ask(SPACE).params


def test_a_new_run_in_the_history_is_learnt_from():
    planted = Planted()
    records = history(planted, sizes=(1e7, 2e7))
    sampler = LawGuidedSampler(params=8e7, tokens=20 * 8e7, history=lambda: records, seed=0)
    before = optuna.create_study(sampler=sampler).ask(SPACE).params
    records.extend(history(planted, sizes=(4e7,), seed=3))
    assert optuna.create_study(sampler=sampler).ask(SPACE).params != before


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"learning_rate": FloatDistribution(0.0, 1.0)}, "learning_rate ranges from 0 to 1"),
        ({"beta2": FloatDistribution(0.9, 1.0)}, "beta2 ranges from 0.9 to 1"),
        ({"momentum": FloatDistribution(0.1, 0.9)}, "'momentum' is no setting"),
        ({"learning_rate": CategoricalDistribution(["low", "high"])}, "give numbers only"),
    ],
)
def test_spaces_that_it_cannot_search_are_said(space, words):
    with pytest.raises(InputError, match=words):
        study_of([], 1e7).ask(space)


def test_a_cell_needs_a_size():
    with pytest.raises(InputError, match="params is -1"):
        LawGuidedSampler(params=-1.0, tokens=1e9, history=[], seed=0)
