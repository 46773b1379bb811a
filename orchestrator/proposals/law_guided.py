"""An Optuna sampler that lets the cells measured so far propose the settings of the next one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from orchestrator.laws.cell_search import (
    CONTRADICTION,
    Posterior,
    before_runs,
    most_telling,
    posterior,
    wide_belief,
)
from orchestrator.laws.coordinates import SETTINGS
from orchestrator.laws.guide import Belief, Guide, fit_guide
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Floats
from orchestrator.proposals.law_axes import ends_of, place_of, value_at
from orchestrator.proposals.samplers import SamplerName, model_sampler
from orchestrator.trial import Reason
from search_spaces.errors import InputError

History = Iterable[RunRecord] | Callable[[], Iterable[RunRecord]]

# The laws propose where their expected regret in a cell is below this part of a uniform guess's. Of 0.1, 0.4
# and 0.8 the larger two were better on planted laws (tests/benchmarks/table_search.py), in early cells above all.
KNOWN = 0.5
# A study's first trial is at the laws' optimum of a setting where its variance is below this part of a uniform guess's.
BETTER = 0.5
# The best trials of a cell that count; more would only cost time. A guess.
MOST_TRIALS = 60
# The best learning rate is taken to lie below one that diverged by this factor (its logarithm). A guess.
DIVERGENCE_MARGIN = math.log(2)
# What a proposal's reason is called among a trial's attributes.
REASON = "reason"


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One study: its settings, their ends (k,), and where it was tried, in the laws' coordinates (n, k)."""

    settings: tuple[str, ...]
    low: Floats
    high: Floats
    places: Floats
    losses: Floats
    pending: Floats


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What the laws and the study's trials say of the cell; `contradicted` where the trials outvote the laws."""

    belief: Belief
    posterior: Posterior
    contradicted: bool


class LawGuidedSampler(BaseSampler):
    """Proposes learning_rate, batch_tokens and beta2 (any of them) of one cell; the study's value is the loss.

    `history` are the runs of the other cells, or a callable that gives them. Until they say enough
    (KNOWN), Optuna's Gaussian process searches, from the middle of the space on. Then the first proposal
    is the laws' optimum; later ones are the fitted optimum, where none was tried near it, or the point
    that tells most about it. Trials that are still running count as if their result were as expected.
    Where the cell contradicts the laws, they are left out. A trial that diverged is told as infinity: it
    bounds the learning rate. Each trial's reason is its user attribute "reason". A proposal is a function
    of the study, the history and the seed.
    """

    def __init__(self, *, params: float, tokens: float, history: History, seed: int) -> None:
        """Raises InputError where params or tokens is not a positive number."""
        for name, value in (("params", params), ("tokens", tokens)):
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} is {value!r}; the cell's {name} must be a positive number")
        self._params, self._tokens = float(params), float(tokens)
        self._history: History = history if callable(history) else tuple(history)
        self._seed = seed
        self._fitted: dict[tuple[str, ...], tuple[int, Guide | None]] = {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The settings that every other trial of the study was asked for."""
        others = [other.distributions for other in study.get_trials(deepcopy=False) if other.distributions]
        if not others:
            return {}
        common = set(others[0]).intersection(*others)
        return {name: others[-1][name] for name in SETTINGS if name in common and not others[-1][name].single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A proposal for all settings at once; empty for the first trial of a study."""
        if not search_space:
            return {}
        cell = _cell(study, search_space)
        known = self._known(cell)
        if known is None:
            return self._search(study, trial)
        place, reason = _next(cell, known)
        _say(study, trial, reason)
        return {name: value_at(search_space[name], name, at) for name, at in zip(cell.settings, place, strict=True)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401 - Optuna's parameters are any of several types
        """A setting of the study's first trial: the laws' optimum, or the middle of its range."""
        if param_name not in SETTINGS:
            raise InputError(f"{param_name!r} is no setting; the sampler proposes {', '.join(SETTINGS)}")
        low, high = ends_of(param_distribution, param_name)
        varied = self._varied()
        guide = self._guide(varied) if param_name in varied else None
        at, reason = (low + high) / 2, Reason.START_UP
        if guide is not None:
            belief, index = guide.belief(self._params, self._tokens), varied.index(param_name)
            if belief.covariance[index, index] < BETTER * (high - low) ** 2 / 12:
                at, reason = float(np.clip(belief.mean[index], low, high)), Reason.PREDICTED
        _say(study, trial, reason)
        return value_at(param_distribution, param_name, at)

    def knows(self, space: Mapping[str, BaseDistribution]) -> bool:
        """Whether the laws say enough to propose in this space; until then Optuna's Gaussian process searches."""
        settings = tuple(name for name in SETTINGS if name in space)
        ends = np.array([ends_of(space[name], name) for name in settings]).reshape(-1, 2)
        return self._belief(settings, ends[:, 0], ends[:, 1]) is not None

    def recommend(self, study: Study) -> dict[str, Any]:
        """The settings to use by all that is known: the fitted optimum, or the best trial's."""
        others = [other.distributions for other in study.get_trials(deepcopy=False) if other.distributions]
        space = {name: others[-1][name] for name in SETTINGS if others and name in others[-1]}
        cell = _cell(study, space)
        known = self._known(cell)
        if known is None or not cell.losses.size:
            return dict(study.best_params)
        place = known.posterior.best_within(cell.low, cell.high)
        return {name: value_at(space[name], name, at) for name, at in zip(cell.settings, place, strict=True)}

    def _known(self, cell: _Cell) -> _Known | None:
        """None until the laws know every setting of the cell to a part of its range."""
        found = self._belief(cell.settings, cell.low, cell.high)
        if found is None:
            return None
        guide, belief = found
        if not cell.losses.size:
            return _Known(belief=belief, posterior=before_runs(guide, belief), contradicted=False)
        own = posterior(guide, belief, cell.places, cell.losses)
        wide = wide_belief(belief, cell.low, cell.high)
        lawless = posterior(guide, wide, cell.places, cell.losses)
        if lawless.log_evidence - own.log_evidence > CONTRADICTION:
            return _Known(belief=wide, posterior=lawless, contradicted=True)
        return _Known(belief=belief, posterior=own, contradicted=False)

    def _belief(self, settings: tuple[str, ...], low: Floats, high: Floats) -> tuple[Guide, Belief] | None:
        guide = self._guide(settings)
        if guide is None:
            return None
        belief = guide.belief(self._params, self._tokens)
        return (guide, belief) if _tells(guide, belief, high - low) else None

    def _search(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        """Optuna's Gaussian process, whose seed is the trial's own."""
        _say(study, trial, Reason.MODEL)
        sampler = model_sampler(SamplerName.GP, (self._seed * 1_000_003 + trial.number) % 2**32)
        found = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
        if found:
            return found
        space = self.infer_relative_search_space(study, trial)
        return {name: sampler.sample_independent(study, trial, name, each) for name, each in space.items()}

    def _varied(self) -> tuple[str, ...]:
        """The settings of which the history has several values."""
        records = self._records()
        values = {name: {getattr(record, name) for record in records} - {None} for name in SETTINGS}
        return tuple(name for name in SETTINGS if len(values[name]) > 1)

    def _records(self) -> list[RunRecord]:
        return list(self._history() if callable(self._history) else self._history)

    def _guide(self, settings: tuple[str, ...]) -> Guide | None:
        """The hierarchy over the history, fitted again where that has changed."""
        if not settings:
            return None
        records, version = self._records(), 0
        if callable(self._history):  # else it never changes
            version = hash(tuple((record.run_id, record.tokens, record.loss) for record in records))
        if settings not in self._fitted or self._fitted[settings][0] != version:
            self._fitted[settings] = version, fit_guide(records, settings)
        return self._fitted[settings][1]


def _next(cell: _Cell, known: _Known) -> tuple[Floats, Reason]:
    """The fitted optimum where trying it is worth more than what another point tells about it."""
    found = known.posterior
    best = found.best_within(cell.low, cell.high)
    tried = np.vstack([cell.places, cell.pending])
    place, told = most_telling(found, cell.pending, cell.low, cell.high)
    saved = math.inf
    if len(tried):
        above = float((found.excess(tried) - found.excess(best[None])).min())
        saved = above - found.regret(found.with_runs(cell.pending))
    outside = (found.centre < cell.low) | (found.centre > cell.high)
    if known.contradicted:
        reason = Reason.FALLBACK
    elif not len(tried):
        reason = Reason.PREDICTED
    else:
        reason = Reason.EDGE if outside.any() else Reason.REFINE
    return (best if saved > told else place), reason


def _tells(guide: Guide, belief: Belief, width: Floats) -> bool:
    """Whether the laws' expected regret is a small part of that of a uniform guess in a space so wide.

    What is not known of a setting costs no more than a uniform guess of it would.
    """
    steep, uniform = np.diag(guide.curvature), width**2 / 12
    return bool(steep @ np.minimum(np.diag(belief.covariance), uniform) < KNOWN * steep @ uniform)


def _cell(study: Study, space: Mapping[str, BaseDistribution]) -> _Cell:
    trials = [each for each in study.get_trials(deepcopy=False) if all(name in each.params for name in space)]
    done = [t for t in trials if t.state is TrialState.COMPLETE and t.value is not None and math.isfinite(t.value)]
    running = [t for t in trials if t.state is TrialState.RUNNING]
    diverged = [t for t in trials if t.state is TrialState.COMPLETE and not math.isfinite(t.value or math.inf)]
    done = sorted(done, key=lambda trial: (trial.value, trial.number))[:MOST_TRIALS]
    low, high = np.array([ends_of(distribution, name) for name, distribution in space.items()]).reshape(-1, 2).T
    if diverged and "learning_rate" in space:
        rate = list(space).index("learning_rate")
        bound = min(math.log(trial.params["learning_rate"]) for trial in diverged) - DIVERGENCE_MARGIN
        high[rate] = max(low[rate], min(high[rate], bound))
    return _Cell(
        settings=tuple(space),
        low=low,
        high=high,
        places=_places(done, space),
        losses=np.array([trial.value or math.nan for trial in done]),
        pending=_places(running, space),
    )


def _places(trials: Sequence[FrozenTrial], space: Mapping[str, BaseDistribution]) -> Floats:
    rows = [[place_of(name, float(trial.params[name])) for name in space] for trial in trials]
    return np.array(rows).reshape(-1, len(space))


def _say(study: Study, trial: FrozenTrial, reason: Reason) -> None:
    """Keep the reason with the trial, as Optuna's own samplers keep what they need."""
    study._storage.set_trial_user_attr(trial._trial_id, REASON, reason.value)
