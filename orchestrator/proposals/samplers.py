"""Optuna's samplers by the names that a sweep file uses."""

from __future__ import annotations

import warnings
from enum import StrEnum

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler

from search_spaces.errors import InputError

# Trials of a search before its sampler has a say (design: Optuna's ten would make small cells random).
START_UP_TRIALS = 3
# Solutions that CMA-ES measures before it moves: 4 + 3 ln 3, the usual size for three settings
# (Hansen 2016, arXiv:1604.00772, eq. 48).
CMA_POPULATION = 7


class SamplerName(StrEnum):
    """The samplers that a sweep file may name."""

    LAW_GUIDED = "law-guided"
    TPE = "tpe"
    GP = "gp"
    CMAES = "cmaes"
    RANDOM = "random"
    GRID = "grid"

    @property
    def learns(self) -> bool:
        """Whether what was measured changes what is proposed."""
        return self not in {SamplerName.RANDOM, SamplerName.GRID}

    @property
    def needs(self) -> int:
        """Measured trials, one of them completed, before its proposals come from a model of the losses."""
        return CMA_POPULATION + 1 if self is SamplerName.CMAES else 1


def sampler_name(name: str) -> SamplerName:
    """The sampler of that name. Raises InputError for an unknown one."""
    try:
        return SamplerName(name)
    except ValueError:
        known = ", ".join(SamplerName)
        raise InputError(f"sampler is {name!r}; choose one of {known}") from None


def model_sampler(name: SamplerName, seed: int) -> BaseSampler:
    """A sampler that uses its model as soon as there is a measured trial; random where it has none."""
    with warnings.catch_warnings():
        # Optuna marks the GP and multivariate TPE as experimental; the versions are pinned and tested.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name is SamplerName.TPE:
            return TPESampler(seed=seed, n_startup_trials=1, multivariate=True, constant_liar=True)
        if name in {SamplerName.GP, SamplerName.LAW_GUIDED}:  # the laws' own search until they know enough
            return GPSampler(seed=seed, n_startup_trials=1, independent_sampler=RandomSampler(seed=seed))
        if name is SamplerName.CMAES:
            return CmaEsSampler(seed=seed, n_startup_trials=1, popsize=CMA_POPULATION, warn_independent_sampling=False)
        return RandomSampler(seed=seed)
