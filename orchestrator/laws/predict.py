"""Settings, loss and shape at a size that was not trained, with intervals and warnings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.predicted import (
    Notes,
    Predicted,
    normal_scores,
    predicted_interval,
    warn_range,
    warn_weak,
)
from orchestrator.laws.result import FittedLaw, Floats, Status
from orchestrator.laws.shape import LadderShape, predict_shape
from orchestrator.laws.sizes import Sizes, complete_sizes, given_sizes
from search_spaces.errors import InputError

__all__ = ["Context", "Predicted", "Prediction", "predict"]

# A target whose tokens_per_param is off a law's line by more than this factor is warned of. A guess.
OFF_THE_LINE = 1.25
# Warmup is N tokens long (Porian et al. 2024), and no longer than this part of the horizon.
LONGEST_WARMUP = 0.25


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the laws were measured with, and so what they hold for. None where it is not known.

    `noise_sd` is the standard deviation of log loss between runs that differ by their seed alone.
    """

    params_count: str = "standard"
    flops_count: str = "standard"
    tokenizer: str | None = None
    vocab_size: int | None = None
    sequence_length: int | None = None
    ladder: tuple[LadderShape, ...] = ()
    schedule: str | None = None
    warmup: str | None = None
    weight_decay: float | None = None
    tokens_per_param: tuple[float, float] | None = None
    corpus: str | None = None
    noise_sd: float | None = None
    version: str | None = None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predicted quantities by name, and what to beware of."""

    quantities: Mapping[str, Predicted]
    warnings: tuple[str, ...] = ()

    def value(self, quantity: str) -> float:
        """The point value. Raises KeyError where the quantity could not be predicted."""
        return self.quantities[quantity].value


def predict(
    laws: Mapping[str, FittedLaw],
    context: Context,
    *,
    params: float | None = None,
    tokens: float | None = None,
    flops: float | None = None,
    target: Mapping[str, object] | None = None,
) -> Prediction:
    """Predict from one or two of params, tokens and flops (FLOP, 6 params tokens).

    A single one is completed by the compute-optimal law, or by the ladder's tokens_per_param. `target`
    names fields of the context as they will be in the target run; differences are warned of. Raises
    InputError where the sizes are not positive, contradict each other or cannot be completed.
    """
    notes = Notes()
    size = complete_sizes(laws, context.tokens_per_param, given_sizes(params, tokens, flops), notes)
    quantities = {"params": size.params, "tokens": size.tokens, "flops": size.flops}
    quantities |= _loss(laws, context, size, notes)
    quantities |= _settings(laws, size, notes)
    quantities |= _shape(context, size)
    warmup = min(size.params.value, LONGEST_WARMUP * size.tokens.value)
    quantities["warmup_tokens"] = Predicted(value=warmup)
    _warn_context(context, target or {}, notes)
    return Prediction(quantities=quantities, warnings=tuple(notes.words))


def _loss(laws: Mapping[str, FittedLaw], context: Context, size: Sizes, notes: Notes) -> dict[str, Predicted]:
    law = laws.get("chinchilla")
    if law is None or law.status is Status.FAILED:
        notes.add("no law of the loss in params and tokens was fitted, so the loss is not predicted")
        return {}
    warn_weak(law, notes)
    warn_range(law, {"params": size.params.value, "tokens": size.tokens.value}, notes)

    def loss(p: Mapping[str, float | Floats]) -> float | Floats:
        return p["E"] + p["A"] * size.params.value ** -p["alpha"] + p["B"] * size.tokens.value ** -p["beta"]

    draws = np.asarray(loss(law.draws)) if law.draws else np.array([])
    noise = context.noise_sd or 0.0
    single = draws * np.exp(noise * normal_scores(draws.size))
    value = float(loss({name: law.value(name) for name in ("E", "A", "B", "alpha", "beta")}))
    return {"loss": predicted_interval(value, draws, single, law.confidence)}


def _settings(laws: Mapping[str, FittedLaw], size: Sizes, notes: Notes) -> dict[str, Predicted]:
    law = laws.get("hyperparameters")
    if law is None or law.status is Status.FAILED:
        notes.add("no law of the settings was fitted, so they are not predicted")
        return {}
    warn_weak(law, notes)
    warn_range(law, {"params": size.params.value, "tokens": size.tokens.value}, notes)
    columns = {name: _power(law, name, size, notes) for name in ("learning_rate", "batch_tokens")}
    found = {
        name: predicted_interval(column[0], column[1:], _scattered(law, name, column[1:]), law.confidence)
        for name, column in columns.items()
        if column is not None
    }
    return found | _beta2(law, size, columns["batch_tokens"], notes)


def _power(law: FittedLaw, name: str, size: Sizes, notes: Notes) -> Floats | None:
    """Coefficient * params^x * tokens^y: the point value, then the draws; None where it was not fitted."""
    if f"{name}.coefficient" not in law.parameters:
        return None
    _warn_line(law, name, size, notes)

    def column(parameter: str) -> Floats:
        key = f"{name}.{parameter}"
        if key not in law.parameters:
            return np.zeros(1)
        return np.concatenate([[law.value(key)], law.draws.get(key, np.array([]))])

    logs = np.log(column("coefficient"))
    logs = logs + column("params_exponent") * math.log(size.params.value)
    logs = logs + column("tokens_exponent") * math.log(size.tokens.value)
    return np.asarray(np.exp(np.clip(logs, -700, 700)))


def _scattered(law: FittedLaw, name: str, draws: Floats) -> Floats:
    """Draws of a single cell's optimum around the law."""
    key = f"{name}.scatter"
    scatter = law.value(key) if key in law.parameters else 0.0
    return np.asarray(draws * np.exp(scatter * normal_scores(draws.size)))


def _beta2(law: FittedLaw, size: Sizes, batch: Floats | None, notes: Notes) -> dict[str, Predicted]:
    half_life = _power(law, "beta2_half_life", size, notes)
    if half_life is not None and batch is not None:
        single = 2 ** (-batch[1:] / _scattered(law, "beta2_half_life", half_life[1:]))
        beta2 = 2 ** (-batch / half_life)
        return {"beta2": predicted_interval(beta2[0], beta2[1:], single, law.confidence)}
    remainder = _power(law, "one_minus_beta2", size, notes)
    if remainder is None:
        return {}
    single = 1 - np.minimum(_scattered(law, "one_minus_beta2", remainder[1:]), 1.0)
    beta2 = 1 - np.minimum(remainder, 1.0)
    return {"beta2": predicted_interval(beta2[0], beta2[1:], single, law.confidence)}


def _shape(context: Context, size: Sizes) -> dict[str, Predicted]:
    shape = predict_shape(context.ladder, size.params.value)
    if shape is None:
        return {}
    return {name: Predicted(value=float(value)) for name, value in dataclasses.asdict(shape).items()}


def _warn_line(law: FittedLaw, name: str, size: Sizes, notes: Notes) -> None:
    key = f"{name}.along_tokens_per_param"
    if key not in law.parameters:
        return
    line, ratio = law.value(key), size.tokens.value / size.params.value
    if abs(math.log(ratio / line)) > math.log(OFF_THE_LINE):
        notes.add(
            f"the law of {name} holds along tokens_per_param = {line:.3g}, and the target's is {ratio:.3g}: "
            "the runs do not tell params from tokens"
        )


def _warn_context(context: Context, target: Mapping[str, object], notes: Notes) -> None:
    known = {each.name for each in dataclasses.fields(Context)}
    for name, value in target.items():
        if name not in known:
            raise InputError(f"the context has no {name!r}; it has {', '.join(sorted(known))}")
        measured = getattr(context, name)
        if measured is not None and measured != value:
            notes.add(f"the laws were measured with {name} = {measured}, and the target has {value}")
