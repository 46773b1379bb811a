"""The runner counts what it says: with samplers whose every proposal is known beforehand."""

import math
from itertools import pairwise

import optuna
import pytest
from optuna.samplers import RandomSampler
from searching.asking import asking_cost
from searching.methods import METHODS, Method
from searching.planted import Kind, planted
from searching.runner import NEAR, CellPath, Job, Visit, run_jobs, search, search_cells
from searching.scores import missed, over_seeds, regret_after, score, trials_to_find

SURFACE = planted(Kind.LAWFUL, 1)  # three settings


class KnowsTheOptimum(RandomSampler):
    """Proposes the optimum as its `turn`-th trial, and recommends it from the start."""

    def __init__(self, optimum, turn):
        super().__init__(seed=0)
        self.optimum, self.turn = optimum, turn

    def sample_independent(self, study, trial, param_name, param_distribution):
        if trial.number + 1 == self.turn:
            return self.optimum[param_name]
        return param_distribution.high

    def recommend(self, study):
        return self.optimum


def oracle(turn, seen):
    """A method that keeps what it was given of the earlier cells."""

    def make(cell, history, seed):
        seen.append(history)
        return KnowsTheOptimum(SURFACE.optimum(cell.params, cell.tokens), turn)

    return Method(name="oracle", make=make, knows_beta2=True)


def job(**changes):
    return Job(**{"surface": Kind.LAWFUL, "noise": 0.001, "seed": 1} | changes)


def test_the_trial_that_finds_the_optimum_is_counted():
    seen = []
    paths = search_cells(SURFACE, oracle(5, seen), job(least=2, most=9, asked_after=(2, 4)))
    assert [path.found_after for path in paths] == [5] * len(SURFACE.cells)
    assert [len(path.regrets) for path in paths] == [5] * len(SURFACE.cells)
    for path in paths:
        assert path.regrets[4] == pytest.approx(0, abs=1e-9)
        assert path.recommended == {2: pytest.approx(0, abs=1e-9), 4: pytest.approx(0, abs=1e-9)}


def test_a_cell_is_searched_within_its_bounds():
    visits = (Visit(cell=0, least=7, most=9), Visit(cell=3, least=1, most=4))
    paths = search_cells(SURFACE, oracle(5, []), job(visits=visits, asked_after=()))
    assert [len(path.regrets) for path in paths] == [7, 4]
    assert [path.cell for path in paths] == [0, 3]
    assert paths[1].found_after is None
    assert paths[1].flops == pytest.approx(4 * SURFACE.cells[3].flops)


def test_every_trial_of_the_earlier_cells_is_known():
    seen = []
    search_cells(SURFACE, oracle(2, seen), job(least=3, most=5, asked_after=()))
    assert [len(history) for history in seen] == [3 * number for number in range(len(SURFACE.cells))]
    record, cell = seen[-1][1], SURFACE.cells[0]
    optimum = SURFACE.optimum(cell.params, cell.tokens)
    assert (record.params, record.tokens) == (cell.params, cell.tokens)
    assert record.learning_rate == pytest.approx(optimum["learning_rate"])
    assert record.batch_tokens == pytest.approx(optimum["batch_tokens"])
    assert record.beta2 == pytest.approx(optimum["beta2"])
    noise = record.loss / SURFACE.evaluate(cell.params, cell.tokens, optimum) - 1
    assert 0 < abs(noise) < 0.005
    assert len({record.run_id for record in seen[-1]}) == len(seen[-1])


def test_trials_asked_at_once_do_not_know_each_other():
    told = []

    class CountsWhatIsTold(KnowsTheOptimum):
        def sample_independent(self, study, trial, param_name, param_distribution):
            if param_name == "learning_rate":
                told.append(len(study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])))
            return super().sample_independent(study, trial, param_name, param_distribution)

    def make(cell, history, seed):
        return CountsWhatIsTold(SURFACE.optimum(cell.params, cell.tokens), 99)

    method = Method(name="counts", make=make, knows_beta2=True)
    once = job(at_once=4, asked_after=(), visits=(Visit(cell=0, least=8, most=8),))
    search_cells(SURFACE, method, once)
    assert told == [0] * 4 + [4] * 4


def test_a_search_from_the_previous_best_starts_there():
    surface = planted(Kind.EDGE, 1)  # one space for all cells, so that nothing is moved into it
    seen = []

    def make(cell, history, seed):
        seen.append(history)
        return RandomSampler(seed=seed)

    method = Method(name="random", make=make, from_previous=True)
    search_cells(surface, method, job(surface=Kind.EDGE, least=6, most=6, asked_after=()))
    searched = [seen[-1][start : start + 6] for start in range(0, len(seen[-1]), 6)]
    for trials, next_trials in pairwise(searched):
        best = min(trials, key=lambda record: record.loss)
        for name in ("learning_rate", "batch_tokens"):
            assert getattr(next_trials[0], name) == pytest.approx(getattr(best, name))


@pytest.mark.parametrize("name", ["random", "tpe", "tpe-default", "cmaes", "tpe-previous"])
def test_a_job_repeats_in_any_process(name):
    visits = tuple(Visit(cell=number, least=8, most=8) for number in range(2))
    one = job(method=name, visits=visits, asked_after=(4,))
    assert search(one) == search(one)
    assert search(one) != search(job(method=name, visits=visits, asked_after=(4,), seed=3))


def test_processes_give_what_one_gives():
    jobs = [job(seed=seed, visits=(Visit(cell=0, least=3, most=3),), asked_after=()) for seed in range(2)]
    assert run_jobs(jobs, 2) == run_jobs(jobs, 1)


def test_the_gaussian_process_runs():
    paths = search(job(method="gp", surface=Kind.LAWFUL, visits=(Visit(cell=0, least=5, most=5),), asked_after=(4,)))
    assert len(paths[0].regrets) == 5


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_settings_go_to_optuna_and_back(method):
    cell = SURFACE.cells[0]
    settings = SURFACE.optimum(cell.params, cell.tokens)
    params = method.to_params(settings)
    distributions = method.distributions(cell)
    assert params.keys() == distributions.keys()
    assert all(distributions[name].low <= value <= distributions[name].high for name, value in params.items())
    assert method.to_settings(params) == pytest.approx(settings)


def test_figures_are_means_over_cells_then_seeds():
    def path(cell, *regrets):
        return CellPath(cell=cell, flops_per_trial=1.0, regrets=regrets, recommended={2: regrets[1]})

    searches = [
        [path(0, 1.0, 1.0), path(3, 1.0, NEAR), path(4, 1.0, 1.0, 1.0, 1.0)],
        [path(0, 1.0, 1.0), path(3, NEAR, 0.5), path(4, NEAR, 0.5)],
    ]
    found = over_seeds(searches, trials_to_find)
    assert found.mean == pytest.approx((3 + 1) / 2)
    assert found.half_width == pytest.approx(12.706 * math.sqrt(2) / math.sqrt(2), rel=1e-3)
    assert over_seeds(searches, missed).mean == pytest.approx(25)
    assert over_seeds(searches, regret_after(2), range(4, 5)).mean == pytest.approx(75)
    assert score([2.0]).text() == "2.00"


def test_asking_is_timed():
    cost = asking_cost("tpe", trials=20, cells=2, trials_behind=3)
    assert 0 < cost.next < 5000
    assert 0 < cost.first < 5000
