"""Searches of a sweep as studies of the law-guided sampler."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.laws.records import RunRecord
from orchestrator.proposals.law_guided import REASON, LawGuidedSampler
from orchestrator.search_records import LEAST_BETA2, search_record
from orchestrator.trial import Proposal, Reason, Trial
from search_spaces.axis import Fixed
from search_spaces.plan import Search
from search_spaces.space import SearchSpace


class GuidedSearches:
    """One sampler a search; its history are the measured trials of all others."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._samplers: dict[str, LawGuidedSampler] = {}
        self._measured: dict[str, tuple[Search, Trial]] = {}

    def learn(self, trial: Trial, search: Search) -> None:
        """A trial ended."""
        if trial.loss is not None:
            self._measured[trial.key] = search, trial

    def ask(self, search: Search, history: Sequence[Trial]) -> Proposal | None:
        """The laws' proposal after the search's own trials; None until they know its optimum well enough."""
        sampler = self._samplers.setdefault(search.name, self._sampler(search))
        space = _widened(search, history)
        asked_for = raw_distributions(search, space)
        if not sampler.knows(asked_for):
            return None
        study = optuna.create_study(sampler=sampler)
        study.add_trials([_frozen(t, search, asked_for) for t in history if t.state.measured or not t.state.ended])
        asked = study.ask(asked_for)
        values = {name: axis.low for name, axis in space.axes().items()} | asked.params
        if "batch_tokens" in asked.params:
            values["batch_size"] = values.pop("batch_tokens") / search.cell.scale.sequence_length
        reason = study.get_trials(deepcopy=False)[asked.number].user_attrs[REASON]
        return Proposal(settings=space.at(values), reason=Reason(reason))

    def _sampler(self, search: Search) -> LawGuidedSampler:
        def history() -> Iterator[RunRecord]:
            return (
                search_record(trial, other) for other, trial in self._measured.values() if other.name != search.name
            )

        cell = search.cell
        return LawGuidedSampler(params=cell.scale.params, tokens=cell.tokens, history=history, seed=self._seed)


def raw_distributions(search: Search, space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space as the sampler wants it: batches in tokens, powers of two; fixed settings left out."""
    rate, batch, beta2 = space.learning_rate, space.batch_size, space.beta2
    found: dict[str, BaseDistribution] = {}
    if not isinstance(rate, Fixed):
        found["learning_rate"] = FloatDistribution(rate.low, rate.high, log=True)
    if not isinstance(batch, Fixed):
        exponents = range(int(batch.low).bit_length() - 1, int(batch.high).bit_length())
        found["batch_tokens"] = CategoricalDistribution([2**at * search.cell.scale.sequence_length for at in exponents])
    if not isinstance(beta2, Fixed):
        found["beta2"] = FloatDistribution(max(beta2.low, LEAST_BETA2), beta2.high)
    return found


def _widened(search: Search, history: Iterable[Trial]) -> SearchSpace:
    """The space, made wider along the settings that a probe of its edge was measured on."""
    probes = [trial.settings for trial in history if trial.reason is Reason.EDGE and trial.loss is not None]
    pressed = {name for settings in probes for name in search.space.edges(settings)}
    wide = {name: getattr(search.widest, name) for name in pressed}
    return SearchSpace(**{**search.space.axes(), **wide})


def _frozen(trial: Trial, search: Search, asked_for: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """A measured trial, infinity where it diverged, or one still to come; its settings moved into the space."""
    record = search_record(trial, search)
    params = {name: _inside(distribution, getattr(record, name)) for name, distribution in asked_for.items()}
    return create_trial(
        state=TrialState.COMPLETE if trial.state.measured else TrialState.RUNNING,
        value=(trial.loss or math.inf) if trial.state.measured else None,
        params=params,
        distributions=dict(asked_for),
    )


def _inside(distribution: BaseDistribution, value: float) -> float:
    if isinstance(distribution, FloatDistribution):
        return min(max(value, distribution.low), distribution.high)
    return value
