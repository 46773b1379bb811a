"""Proposes settings with Optuna: a study per search, built from what the ledger told."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.proposals.coordinates import distributions, to_params, to_settings
from orchestrator.proposals.grid import grid_point
from orchestrator.proposals.guided import GuidedSearches
from orchestrator.proposals.samplers import START_UP_TRIALS, SamplerName, model_sampler, sampler_name
from orchestrator.trial import Proposal, Reason, Trial
from search_spaces.errors import InputError
from search_spaces.plan import Search
from search_spaces.space import HyperParameters

# A diverged trial is told as worse than the worst by the spread of the losses, and by this at least
# (nats per token, a guess): finite, so that the sampler learns to keep away.
LEAST_PENALTY = 0.1
# Draws until a point is found that the search has not had, where few are left. A guess.
DRAWS = 8


class OptunaProposer:
    """The proposer over Optuna's samplers. Called from one thread; see orchestrator.ports.Proposer.

    It holds the trials alone. Each `ask` builds the search's study from them in the order of proposal
    and draws with a sampler seeded by (seed, search, number), so that a proposal is a function of the
    history: a restart, or an `ask` that was never recorded, leaves no trace.
    """

    def __init__(self, *, sampler: str, seed: int) -> None:
        """Raises InputError for an unknown sampler."""
        self._name = sampler_name(sampler)
        self._seed = seed
        self._trials: dict[tuple[str, int], dict[str, Trial]] = {}
        self._guided = GuidedSearches(seed=seed)
        optuna.logging.set_verbosity(optuna.logging.ERROR)

    def ask(self, search: Search, number: int, neighbour_best: HyperParameters | None) -> Proposal:
        """Settings for the search's next trial; see the port. Raises InputError where the sampler cannot."""
        self._check(search)
        history = self._history(search)
        if self._name is SamplerName.GRID:
            return Proposal(settings=grid_point(search, _asked(history)), reason=Reason.SAMPLER)
        if self._name is SamplerName.RANDOM:
            return self._drawn(search, number, Reason.SAMPLER)
        if self._name is SamplerName.LAW_GUIDED and (guided := self._guided.ask(search, history)) is not None:
            return guided
        if len(history) < START_UP_TRIALS:
            return self._start_up(search, number, neighbour_best)
        return self._drawn(search, number, Reason.MODEL if self._has_model(history) else Reason.START_UP)

    def proposed(self, trial: Trial, search: Search) -> None:
        """Count the trial as pending until it is told."""
        self._trials.setdefault(_place(search), {})[trial.key] = trial

    def tell(self, trial: Trial, search: Search) -> None:
        """The trial ended: replaces what was known of it."""
        self._guided.learn(trial, search)
        self._trials.setdefault(_place(search), {})[trial.key] = trial

    def restore(self, trial: Trial, search: Search) -> None:
        """A trial of an earlier process, in whatever state it was left."""
        self._guided.learn(trial, search)
        self._trials.setdefault(_place(search), {})[trial.key] = trial

    def study(self, search: Search) -> optuna.Study:
        """The search as an Optuna study in memory: a copy, one trial each, key and reason as attributes."""
        study = optuna.create_study(study_name=search.name, sampler=optuna.samplers.RandomSampler(seed=0))
        study.add_trials(self._frozen(search))
        return study

    def _check(self, search: Search) -> None:
        searched = len(distributions(search.space))
        if self._name is SamplerName.CMAES and searched < 2:
            raise InputError(
                f"search {search.name}: sampler 'cmaes' needs at least two settings to search, and {searched} "
                "is not fixed; use 'tpe'"
            )

    def _history(self, search: Search) -> list[Trial]:
        return sorted(self._trials.get(_place(search), {}).values(), key=lambda trial: trial.number)

    def _has_model(self, history: Sequence[Trial]) -> bool:
        measured = sum(trial.state.measured for trial in history)
        return measured >= self._name.needs and any(_finite_loss(trial) is not None for trial in history)

    def _start_up(self, search: Search, number: int, neighbour_best: HyperParameters | None) -> Proposal:
        history = self._history(search)
        tried = any(trial.reason is Reason.NEIGHBOUR for trial in history)
        if neighbour_best is not None and not tried:
            values = {name: getattr(neighbour_best, name) for name in search.space.axes()}
            return Proposal(settings=search.space.at(values), reason=Reason.NEIGHBOUR)
        if not history:
            return Proposal(settings=search.space.centre, reason=Reason.START_UP)
        return self._drawn(search, number, Reason.START_UP)

    def _drawn(self, search: Search, number: int, reason: Reason) -> Proposal:
        """A point that the search has not had yet, if a few draws give one."""
        had = {trial.settings for trial in self._history(search)}
        for draw in range(DRAWS):
            settings = self._draw(search, _seed(self._seed, search, number, draw), reason)
            if settings not in had:
                break
        return Proposal(settings=settings, reason=reason)

    def _draw(self, search: Search, seed: int, reason: Reason) -> HyperParameters:
        name = self._name if reason is Reason.MODEL else SamplerName.RANDOM
        study = optuna.create_study(sampler=model_sampler(name, seed))
        if name is SamplerName.CMAES:
            _replay(study, self._frozen(search))
        elif name.learns:
            study.add_trials(self._frozen(search))
        return to_settings(search.space, study.ask(distributions(search.space)).params)

    def _frozen(self, search: Search) -> list[FrozenTrial]:
        history = self._history(search)
        penalty = _penalty(search, history)
        return [_frozen_trial(trial, search, penalty) for trial in history]


def _place(search: Search) -> tuple[str, int]:
    return search.cell.scale.name, search.cell.tokens


def _asked(history: Sequence[Trial]) -> int:
    return sum(trial.reason is not Reason.REPLICATE for trial in history)


def _seed(seed: int, search: Search, number: int, draw: int) -> int:
    """A seed of 32 bits, equal on every machine."""
    text = f"{seed}/{search.cell.scale.name}/{search.cell.tokens}/{number}/{draw}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _finite_loss(trial: Trial) -> float | None:
    return trial.loss if trial.loss is not None and math.isfinite(trial.loss) else None


def _penalty(search: Search, history: Sequence[Trial]) -> float:
    """What a diverged trial is told as: above the worst loss by the losses' spread.

    With no completed trial it is the loss of a uniform guess, ln(vocab_size).
    """
    losses = [loss for trial in history if (loss := _finite_loss(trial)) is not None]
    if not losses:
        return math.log(search.cell.scale.vocab_size) + LEAST_PENALTY
    return max(losses) + max(max(losses) - min(losses), LEAST_PENALTY)


def _frozen_trial(trial: Trial, search: Search, penalty: float) -> FrozenTrial:
    loss = _finite_loss(trial)
    if trial.state.measured:
        state, value = TrialState.COMPLETE, loss if loss is not None else penalty
    else:
        state, value = TrialState.FAIL if trial.state.ended else TrialState.RUNNING, None
    return create_trial(
        state=state,
        value=value,
        params=to_params(search.space, trial.settings),
        distributions=distributions(search.space),
        user_attrs={"trial_key": trial.key, "reason": trial.reason.value},
    )


def _replay(study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    """Tell measured trials one after another, as if each had been asked for with its own settings.

    CMA-ES keeps its state in the trials that it was asked for, so that `add_trials` alone would leave
    it none. Trials not measured yet do not move it.
    """
    for trial in trials:
        if trial.state is TrialState.COMPLETE:
            asked = study.ask(dict(trial.distributions))
            study.add_trial(_with_state(trial, study.get_trials(deepcopy=False)[asked.number]))
            study.tell(asked, state=TrialState.FAIL)


def _with_state(trial: FrozenTrial, asked: FrozenTrial) -> FrozenTrial:
    return create_trial(
        value=trial.value,
        params=trial.params,
        distributions=trial.distributions,
        system_attrs=asked.system_attrs,
    )
