"""Where trials go when there is a target, when a search is settled, and when a sweep has told enough."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from fakes import FakePool, FakeTracker

from orchestrator.forecasts import Forecast
from orchestrator.goal import Goal
from orchestrator.ledger import Closed, Ledger, Predicted, Settled, read
from orchestrator.ports import Resources
from orchestrator.proposals.proposer import OptunaProposer
from orchestrator.steering import Steering
from orchestrator.sweep import Ending, Ports, Sweep
from orchestrator.trial import Reason
from search_spaces.errors import InputError

GUIDED = {"sampler": "law-guided", "trials": 12, "replicates": 1, "target": {"params": 1e6}}


def no_laws(search, trials):
    return Forecast(settings=None, runs_used=len(trials), prediction={})


def run(folder: Path, sweep, pool=None) -> Ending:
    """The sweep on the planted law with the real sampler; again, as a new driver, on the same folder."""
    plan = sweep.plan()
    proposer = OptunaProposer(sampler=sweep.sampler, seed=sweep.seed)
    with Ledger.open(folder) as ledger:
        return Sweep(
            plan=plan,
            folder=folder,
            ledger=ledger,
            ports=Ports(proposer=proposer, pool=pool or FakePool(), tracker=FakeTracker(), forecast=no_laws),
            trainer_version="fake",
            resources=lambda _: Resources(),
            steering=Steering(plan=plan, goal=sweep.goal()),
        ).run()


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """A finished sweep with a target."""
    folder = tmp_path_factory.mktemp("guided")
    sweep = tiny.sweep(**GUIDED)
    assert run(folder, sweep) is Ending.DONE
    return sweep, read(folder)


def test_small_scales_are_searched_and_the_laws_propose_for_the_rest(guided):
    sweep, history = guided
    trials = list(history.trials.values())
    first = [trial for trial in trials if trial.of(sweep.plan().searches[0])]
    last = [trial for trial in trials if trial.of(sweep.plan().searches[-1])]
    assert {trial.reason for trial in first} <= {Reason.START_UP, Reason.MODEL, Reason.REFINE, Reason.PREDICTED}
    assert last[0].reason is Reason.PREDICTED
    assert len(trials) < sweep.plan().trials


def test_settled_searches_are_written_down_with_the_reason(guided):
    history = guided[1]
    settled = history.of(Settled)
    assert settled
    assert all("next to nothing" in event.why for event in settled)
    for event in settled:
        later = [t for t in history.trials.values() if t.scale == event.scale and t.proposed_at > event.time]
        assert all(trial.reason is Reason.REPLICATE for trial in later)


def test_every_scale_from_the_fourth_on_is_predicted_before_its_first_trial(guided):
    history = guided[1]
    (predicted,) = history.of(Predicted)
    of_scale = [trial for trial in history.trials.values() if trial.scale == predicted.scale]
    assert min(trial.proposed_at for trial in of_scale) >= predicted.time


def test_without_a_target_the_smallest_scale_goes_first_and_of_it_the_longest_trials():
    plan = tiny.sweep(schedule="cosine", tokens_per_param=[20, 40]).plan()
    searches = list(plan.searches)
    ordered = Steering(plan=plan, goal=Goal()).order(searches[::-1], [])
    assert [search.cell.scale for search in ordered] == [search.cell.scale for search in searches]
    assert all(a.cell.tokens > b.cell.tokens for a, b in zip(ordered[::2], ordered[1::2], strict=True))


def test_only_guided_searches_are_predicted_early():
    guided = tiny.sweep(**GUIDED).plan().searches
    assert [search.early for search in guided] == [False, False, False, True]
    waiting = tiny.sweep(sampler="tpe").plan().searches
    assert [search.held_out for search in waiting] == [False, False, False, True]
    assert not any(search.early for search in waiting)


def test_a_budget_of_flops_is_kept(tmp_path):
    free = tiny.sweep(**GUIDED)
    limit = free.plan().flops() / 10
    sweep = tiny.sweep(**GUIDED, budget={"flops": limit})
    assert run(tmp_path, sweep) is Ending.DONE
    history = read(tmp_path)
    spent = Steering(plan=sweep.plan(), goal=sweep.goal()).spent(list(history.trials.values()))["flops"]
    largest = max(search.cell.flops() for search in sweep.plan().searches)
    assert limit <= spent <= limit + 2 * largest
    assert "budget is spent" in history.of(Closed)[-1].message


def test_a_sweep_ends_when_the_targets_regret_is_small_enough(tmp_path):
    sweep = tiny.sweep(**GUIDED, stop={"regret": "50%"})
    assert sweep.goal().regret == 0.5
    assert run(tmp_path, sweep) is Ending.DONE
    history = read(tmp_path)
    assert "expected regret" in history.of(Closed)[-1].message
    assert len(history.trials) < 12


def test_without_a_target_the_order_is_the_plans(tmp_path):
    sweep = tiny.sweep(sampler="random", trials=3)
    steering = Steering(plan=sweep.plan(), goal=Goal())
    assert steering.order(sweep.plan().searches, []) == list(sweep.plan().searches)
    assert steering.enough([]) == ""


def test_a_restart_decides_the_same(tmp_path, guided):
    sweep, history = guided
    trials = list(history.trials.values())
    first, again = (Steering(plan=sweep.plan(), goal=sweep.goal()) for _ in range(2))
    half = trials[: len(trials) // 2]
    first.order(sweep.plan().searches, half)
    assert first.order(sweep.plan().searches, trials) == again.order(sweep.plan().searches, trials)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stop": {"regret": 0.001}}, "no target"),
        ({"target": {"params": 1e9}}, "sampler: law-guided"),
        ({"sampler": "law-guided", "target": {"params": 1e9}, "stop": {"regret": "300%"}}, "stop.regret"),
        ({"budget": {"flop": 1e18}}, "budget.flop"),
    ],
)
def test_goals_that_cannot_be_are_said(changes, words):
    with pytest.raises(InputError, match=words):
        tiny.sweep(**changes).plan()
