"""The best settings at a size, with their draws, from the law of the settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from orchestrator.laws import joint
from orchestrator.laws.predicted import Notes, Predicted, normal_scores, predicted_interval
from orchestrator.laws.result import FittedLaw, Floats, Status

# A target whose tokens_per_param is off a law's line by more than this factor is warned of. A guess.
OFF_THE_LINE = 1.25
# The power laws that they may have, and the dimension of `normal_scores` that scatters each.
_TARGETS = {"learning_rate": 0, "batch_tokens": 1, "beta2_half_life": 2, "one_minus_beta2": 2}


@dataclass(frozen=True, kw_only=True)
class SettingDraws:
    """The best value of a setting: the point value, draws of the law, draws of a single cell's optimum around it."""

    value: float
    mean: Floats
    single: Floats


def settings_law(laws: Mapping[str, FittedLaw]) -> FittedLaw | None:
    """The law of the settings to use: `joint` where it is preferred, else `hyperparameters`; None without either."""
    both = (laws.get("hyperparameters"), laws.get(joint.NAME))
    apart, together = (law if law is not None and law.status is not Status.FAILED else None for law in both)
    if apart is None or together is None:
        return apart or together
    return together if joint.preferred(together) else apart


def settings_at(law: FittedLaw, params: float, tokens: float) -> dict[str, SettingDraws]:
    """Learning rate, batch in tokens, and beta2 as its half-life in tokens or as 1 - beta2; those with a law."""
    found = {}
    for name, dimension in _TARGETS.items():
        column = _power(law, name, params, tokens)
        if column is not None:
            key = f"{name}.scatter"
            scatter = law.value(key) if key in law.parameters else 0.0
            single = column[1:] * np.exp(scatter * normal_scores(column.size - 1, dimension))
            found[name] = SettingDraws(value=float(column[0]), mean=column[1:], single=single)
    return found


def predicted_settings(found: Mapping[str, SettingDraws], confidence: float) -> dict[str, Predicted]:
    """The settings by the names that a trainer takes, with intervals."""
    named = {name: found[name] for name in ("learning_rate", "batch_tokens") if name in found}
    named |= _beta2(found)
    return {name: predicted_interval(each.value, each.mean, each.single, confidence) for name, each in named.items()}


def warn_lines(law: FittedLaw, tokens_per_param: float, notes: Notes) -> None:
    """Note each setting whose law only holds along one tokens_per_param, where the target is off it."""
    for name in _TARGETS:
        key = f"{name}.along_tokens_per_param"
        if key in law.parameters and abs(math.log(tokens_per_param / law.value(key))) > math.log(OFF_THE_LINE):
            notes.add(
                f"the law of {name} holds along tokens_per_param = {law.value(key):.3g}, and the target's is "
                f"{tokens_per_param:.3g}: the runs do not tell params from tokens"
            )


def _power(law: FittedLaw, name: str, params: float, tokens: float) -> Floats | None:
    """Coefficient * params^x * tokens^y: the point value, then the draws; None where it was not fitted."""
    if f"{name}.coefficient" not in law.parameters:
        return None

    def column(parameter: str) -> Floats:
        key = f"{name}.{parameter}"
        if key not in law.parameters:
            return np.zeros(1)
        return np.concatenate([[law.value(key)], law.draws.get(key, np.array([]))])

    logs = np.log(column("coefficient"))
    logs = logs + column("params_exponent") * math.log(params)
    logs = logs + column("tokens_exponent") * math.log(tokens)
    return np.asarray(np.exp(np.clip(logs, -700, 700)))


def _beta2(found: Mapping[str, SettingDraws]) -> dict[str, SettingDraws]:
    """Beta2 for the predicted batch, from its half-life, or from 1 - beta2."""
    half_life, batch, remainder = (found.get(name) for name in ("beta2_half_life", "batch_tokens", "one_minus_beta2"))
    if half_life is not None and batch is not None:
        with np.errstate(over="ignore"):  # a batch of infinitely many half-lives remembers nothing: beta2 is 0
            return {
                "beta2": SettingDraws(
                    value=2 ** (-batch.value / half_life.value),
                    mean=2 ** (-batch.mean / half_life.mean),
                    single=2 ** (-batch.mean / half_life.single),
                )
            }
    if remainder is None:
        return {}
    columns = {name: 1 - np.minimum(getattr(remainder, name), 1.0) for name in ("value", "mean", "single")}
    return {"beta2": SettingDraws(value=float(columns["value"]), mean=columns["mean"], single=columns["single"])}
