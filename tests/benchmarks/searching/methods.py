"""The ways of searching that are compared: Optuna's samplers by its plain interface, and the law-guided one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from searching.surface import Cell, Settings

import orchestrator.proposals
from orchestrator.laws.records import RunRecord

# Trials of a cell before a model has a say. Optuna's ten would make a short search a random one.
START_UP_TRIALS = 3
LAW_GUIDED = "law-guided"

MakeSampler = Callable[[Cell, Sequence[RunRecord], int], BaseSampler]


@runtime_checkable
class Recommending(Protocol):
    """A sampler with a model of its own says more than which trial was the best."""

    def recommend(self, study: optuna.Study) -> Mapping[str, float] | None:
        """The settings believed best, by the names of the study's parameters; None where it has no model yet."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A sampler, made anew for each cell from the cell, the trials of the earlier cells, and a seed.

    `from_previous`: the first trial is at the best trial of the cell before. Optuna has no scale that suits
    beta2, so a method without `knows_beta2` searches the logarithm of 1 - beta2 instead.
    """

    name: str
    make: MakeSampler
    from_previous: bool = False
    knows_beta2: bool = False

    def distributions(self, cell: Cell) -> dict[str, FloatDistribution]:
        """The space of a cell as Optuna distributions."""
        return dict(self._distribution(name, *bounds) for name, bounds in cell.ranges.items())

    def to_params(self, settings: Settings) -> dict[str, float]:
        """Settings by the names and in the units of the distributions."""
        if self.knows_beta2:
            return dict(settings)
        return {self._name(name): 1 - value if name == "beta2" else value for name, value in settings.items()}

    def to_settings(self, params: Mapping[str, float]) -> dict[str, float]:
        """The inverse of `to_params`."""
        swapped = {"one_minus_beta2": "beta2"}
        return {swapped.get(name, name): 1 - value if name in swapped else value for name, value in params.items()}

    def _distribution(self, name: str, low: float, high: float) -> tuple[str, FloatDistribution]:
        if name != "beta2":
            return name, FloatDistribution(low, high, log=True)
        if self.knows_beta2:
            return name, FloatDistribution(low, high)
        return self._name(name), FloatDistribution(1 - high, 1 - low, log=True)

    def _name(self, name: str) -> str:
        return "one_minus_beta2" if name == "beta2" and not self.knows_beta2 else name


def _random(cell: Cell, history: Sequence[RunRecord], seed: int) -> BaseSampler:
    return RandomSampler(seed=seed)


def _tpe(cell: Cell, history: Sequence[RunRecord], seed: int) -> BaseSampler:
    return TPESampler(seed=seed, n_startup_trials=START_UP_TRIALS, multivariate=True, group=False, constant_liar=True)


def _tpe_default(cell: Cell, history: Sequence[RunRecord], seed: int) -> BaseSampler:
    return TPESampler(seed=seed)


def _gp(cell: Cell, history: Sequence[RunRecord], seed: int) -> BaseSampler:
    return GPSampler(
        seed=seed,
        n_startup_trials=START_UP_TRIALS,
        independent_sampler=RandomSampler(seed=seed),
        deterministic_objective=False,
    )


def _gp_default(cell: Cell, history: Sequence[RunRecord], seed: int) -> BaseSampler:
    return GPSampler(seed=seed)


def _cmaes(cell: Cell, history: Sequence[RunRecord], seed: int) -> BaseSampler:
    """Starts in the middle of the space, as Optuna does; n_startup_trials=1 costs one random trial."""
    return CmaEsSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False)


def _law_guided(cell: Cell, history: Sequence[RunRecord], seed: int) -> BaseSampler:
    return orchestrator.proposals.LawGuidedSampler(params=cell.params, tokens=cell.tokens, history=history, seed=seed)


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(name="random", make=_random),
        Method(name="tpe", make=_tpe),
        Method(name="tpe-default", make=_tpe_default),
        Method(name="gp", make=_gp),
        Method(name="gp-default", make=_gp_default),
        Method(name="cmaes", make=_cmaes),
        Method(name="tpe-previous", make=_tpe, from_previous=True),
        Method(name="gp-previous", make=_gp, from_previous=True),
        Method(name=LAW_GUIDED, make=_law_guided, knows_beta2=True),
    )
}


def available(names: Sequence[str]) -> tuple[list[str], str]:
    """The methods that can run here, and what is to be said of the others."""
    if LAW_GUIDED not in names or hasattr(orchestrator.proposals, "LawGuidedSampler"):
        return list(names), ""
    left = [name for name in names if name != LAW_GUIDED]
    return left, f"{LAW_GUIDED} is left out: orchestrator.proposals has no LawGuidedSampler\n"


def make_sampler(method: Method, cell: Cell, history: Sequence[RunRecord], seed: int) -> BaseSampler:
    """The method's sampler without Optuna's notes on what is experimental; the versions are pinned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return method.make(cell, history, seed)
