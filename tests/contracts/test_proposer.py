"""The Proposer contract, on a hand-written fake and on Optuna with each of its samplers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.ports import Proposer
from orchestrator.proposals.proposer import OptunaProposer
from orchestrator.trial import Proposal, Reason, Trial, TrialState
from search_spaces.plan import Cell, Search
from search_spaces.space import HyperParameters

MakeTrial = Callable[..., Trial]
NEIGHBOUR = HyperParameters(learning_rate=0.005, batch_size=4, beta2=0.95)


class FakeProposer:
    """Halves the distance to the best settings so far, with some noise."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._told: dict[str, Trial] = {}

    def ask(self, search: Search, number: int, neighbour_best: HyperParameters | None) -> Proposal:
        if number == 0 and neighbour_best is not None:
            values = {name: getattr(neighbour_best, name) for name in search.space.axes()}
            return Proposal(settings=search.space.at(values), reason=Reason.NEIGHBOUR)
        noise = random.Random(f"{self._seed}/{number}")
        told = [trial for trial in self._told.values() if trial.of(search) and trial.loss is not None]
        best = min(told, key=lambda trial: (trial.loss, trial.number)).settings if told else search.space.centre
        values = {}
        for name, axis in search.space.axes().items():
            anywhere = axis.coordinate(axis.low) + noise.random() * axis.span
            values[name] = axis.value((anywhere + axis.coordinate(getattr(best, name))) / 2)
        return Proposal(settings=search.space.at(values), reason=Reason.MODEL if told else Reason.START_UP)

    def proposed(self, trial: Trial, search: Search) -> None:
        self._told[trial.key] = trial

    def tell(self, trial: Trial, search: Search) -> None:
        self._told[trial.key] = trial

    def restore(self, trial: Trial, search: Search) -> None:
        self._told[trial.key] = trial


def loss_of(settings: HyperParameters) -> float:
    """A bowl, which diverges at high learning rates."""
    if settings.learning_rate > 0.02:
        return math.nan
    rate = math.log(settings.learning_rate / 3e-3)
    batch = math.log2(settings.batch_size / 8)
    memory = -math.log1p(-settings.beta2) - 4
    return 3 + 0.1 * rate**2 + 0.05 * batch**2 + 0.02 * memory**2


@pytest.fixture(params=["fake", "law-guided", "tpe", "gp", "cmaes", "random", "grid"])
def start(request: pytest.FixtureRequest) -> Callable[[], Proposer]:
    """Starts a proposer as a new process would."""
    if request.param == "fake":
        return lambda: FakeProposer(seed=1)
    return lambda: OptunaProposer(sampler=request.param, seed=1)


@pytest.fixture
def sweep(small_search: Search, make_trial: MakeTrial) -> Callable[..., list[Trial]]:
    """Runs trials one after another with two in flight, and restarts the proposer wherever told to."""

    def run(start: Callable[[], Proposer], count: int, restart_at: tuple[int, ...] = ()) -> list[Trial]:
        proposer, trials = start(), []
        for number in range(count):
            if number in restart_at:
                proposer.ask(small_search, number, NEIGHBOUR)  # asked, never recorded
                proposer = start()
                for trial in trials:
                    proposer.restore(trial, small_search)
            proposal = proposer.ask(small_search, number, NEIGHBOUR)
            trials.append(make_trial(number, proposal.settings, proposal.reason))
            proposer.proposed(trials[-1], small_search)
            if number >= 1:
                ended = trials[-2]
                trials[-2] = make_trial(ended.number, ended.settings, ended.reason, loss_of(ended.settings))
                proposer.tell(trials[-2], small_search)
        return trials

    return run


class TestProposer:
    """What the sweep relies on."""

    def test_restarts_leave_no_trace(self, start, sweep, small_search, request):
        count = 6 if "gp" in request.node.name else 12  # a proposal of the GP takes a quarter of a second
        undisturbed = sweep(start, count)
        assert sweep(start, count, restart_at=(1, count // 2, count - 1)) == undisturbed
        settings = [trial.settings for trial in undisturbed]
        assert len(set(settings)) == len(settings)
        for point in settings:
            small_search.space.validate(point)

    def test_asking_twice_gives_the_same(self, start, small_search):
        proposer = start()
        assert proposer.ask(small_search, 0, None) == proposer.ask(small_search, 0, None)

    def test_another_search_does_not_matter(self, start, small_search, make_trial):
        longer = Cell(scale=small_search.cell.scale, tokens=2 * small_search.cell.tokens)
        other = replace(small_search, cell=longer, serves=(longer,))
        proposer = start()
        for number in range(3):
            proposer.tell(make_trial(number, loss=2.0), small_search)
        assert proposer.ask(other, 0, NEIGHBOUR) == start().ask(other, 0, NEIGHBOUR)

    def test_a_failed_trial_is_no_obstacle(self, start, small_search, make_trial):
        proposer = start()
        for number in range(5):
            proposal = proposer.ask(small_search, number, None)
            proposer.tell(make_trial(number, proposal.settings, proposal.reason, state=TrialState.FAILED), small_search)
            small_search.space.validate(proposal.settings)
