"""Settings, loss and shape at a size that was not trained, with intervals and warnings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from orchestrator.laws import chinchilla
from orchestrator.laws.predicted import Notes, Predicted, normal_scores, predicted_interval, widening_of
from orchestrator.laws.predicted_error import predicted_error
from orchestrator.laws.predicted_settings import predicted_settings, settings_at, settings_law, warn_lines
from orchestrator.laws.regret import Regret, settings_regret, size_regret
from orchestrator.laws.result import FittedLaw, Status
from orchestrator.laws.shape import LadderShape, predict_shape
from orchestrator.laws.sizes import Sizes, complete_sizes, given_sizes
from search_spaces.errors import InputError

__all__ = ["Context", "Predicted", "Prediction", "predict"]

# Warmup is N tokens long (Porian et al. 2024), and no longer than this part of the horizon.
LONGEST_WARMUP = 0.25


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the laws were measured with, and so what they hold for. None where it is not known.

    `noise_sd` is the standard deviation of log loss between runs that differ by their seed alone; `tied`
    says whether the output head is the input embedding.
    """

    params_count: str = "standard"
    flops_count: str = "standard"
    tokenizer: str | None = None
    vocab_size: int | None = None
    sequence_length: int | None = None
    ladder: tuple[LadderShape, ...] = ()
    architecture: str | None = None
    tied: bool | None = None
    schedule: str | None = None
    warmup: str | None = None
    weight_decay: float | None = None
    tokens_per_param: tuple[float, float] | None = None
    corpus: str | None = None
    noise_sd: float | None = None
    version: str | None = None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predicted quantities by name, what the uncertainty of `settings` and of the `size` could cost, and warnings."""

    quantities: Mapping[str, Predicted]
    regrets: Mapping[str, Regret] = field(default_factory=dict)
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

    A single one is completed by the compute-optimal law, or by the ladder's tokens_per_param. The loss
    and the settings are those of a run of the value of each size; the shape and the warmup follow the
    size's interval. `target` names fields of the context as they will be in the target run; differences
    are warned of. Raises InputError where the sizes are not positive, contradict each other or cannot be
    completed.
    """
    notes = Notes()
    size = complete_sizes(laws, context.tokens_per_param, given_sizes(params, tokens, flops), notes)
    quantities = {"params": size.params, "tokens": size.tokens, "flops": size.flops}
    quantities |= _loss(laws, context, size, notes)
    quantities |= predicted_error(
        laws, size.flops.value, size.tokens.value / size.params.value, context.noise_sd, notes
    )
    settings, regrets = _settings(laws, size, notes)
    quantities |= settings
    quantities |= _shape(context, size.params)
    quantities["warmup_tokens"] = _warmup(size)
    if size.best_params is not None:
        regrets["size"] = size_regret(
            size.best_params, laws, size.params.value, size.tokens.value, _confidence(notes.laws)
        )
    notes.warn_range({"params": size.params.value, "tokens": size.tokens.value, "flops": size.flops.value})
    _warn_context(context, target or {}, notes)
    found = {name: regret for name, regret in regrets.items() if regret is not None}
    return Prediction(quantities=quantities, regrets=found, warnings=tuple(notes.words))


def _confidence(laws: Mapping[str, FittedLaw]) -> float:
    return next((law.confidence for law in laws.values()), 0.95)


def _loss(laws: Mapping[str, FittedLaw], context: Context, size: Sizes, notes: Notes) -> dict[str, Predicted]:
    law = laws.get(chinchilla.NAME)
    if law is None or law.status is Status.FAILED:
        notes.add("no law of the loss in params and tokens was fitted, so the loss is not predicted")
        return {}
    notes.use(law)
    value = float(chinchilla.loss(_values(law), size.params.value, size.tokens.value))
    if not law.draws:
        return {"loss": Predicted(value=value)}
    mean = np.asarray(chinchilla.loss(law.draws, size.params.value, size.tokens.value))
    mean = value * (mean / value) ** widening_of(law)
    single = mean * np.exp((context.noise_sd or 0.0) * normal_scores(mean.size))
    return {"loss": predicted_interval(value, mean, single, law.confidence)}


def _values(law: FittedLaw) -> dict[str, float]:
    return {name: estimate.value for name, estimate in law.parameters.items()}


def _settings(
    laws: Mapping[str, FittedLaw], size: Sizes, notes: Notes
) -> tuple[dict[str, Predicted], dict[str, Regret | None]]:
    """The settings, and what not knowing them better could cost."""
    law = settings_law(laws)
    if law is None:
        notes.add("no law of the settings was fitted, so they are not predicted")
        return {}, {}
    notes.use(law)
    params, tokens = size.params.value, size.tokens.value
    warn_lines(law, tokens / params, notes)
    found = settings_at(law, params, tokens)
    if "beta2_half_life" in found and "batch_tokens" not in found:
        half_life = found["beta2_half_life"].value
        notes.add(f"beta2 depends on the batch, which has no law: take 2^(-batch_tokens / {half_life:.3g})")
    regret, left_out = settings_regret(law, found, laws, params, tokens)
    if regret is not None and left_out:
        notes.add(f"the regret of the settings leaves out {' and '.join(left_out)}, which has no law")
    return predicted_settings(found, law.confidence), {"settings": regret}


def _shape(context: Context, params: Predicted) -> dict[str, Predicted]:
    """Depth, width and heads, and their range over the interval of params."""
    shapes = [
        dataclasses.asdict(shape)
        for at in (params.value, params.low, params.high)
        if at is not None and (shape := predict_shape(context.ladder, at)) is not None
    ]
    if not shapes:
        return {}
    names = [name for name, value in shapes[0].items() if value is not None]
    if context.params_count == "non_embedding":  # then it is params itself
        names.remove("non_embedding_params")
    return {name: _range([float(shape[name]) for shape in shapes], known=params.low is not None) for name in names}


def _warmup(size: Sizes) -> Predicted:
    """As many tokens as params, over the ends of the sizes' intervals: of one compute, more params are fewer tokens."""
    params, tokens = size.params, size.tokens
    pairs = [(params.value, tokens.value)]
    low_tokens, high_tokens = (tokens.low, tokens.high) if size.one_compute else (tokens.high, tokens.low)
    pairs += [(params.low or params.value, high_tokens or tokens.value)]
    pairs += [(params.high or params.value, low_tokens or tokens.value)]
    ends = [min(n, LONGEST_WARMUP * d) for n, d in pairs]
    return _range(ends, known=params.low is not None or tokens.low is not None)


def _range(values: Sequence[float], *, known: bool) -> Predicted:
    """The first value, within the smallest and the largest where an interval is known."""
    return Predicted(value=values[0], low=min(values), high=max(values)) if known else Predicted(value=values[0])


def _warn_context(context: Context, target: Mapping[str, object], notes: Notes) -> None:
    known = {each.name for each in dataclasses.fields(Context)}
    for name, value in target.items():
        if name not in known:
            raise InputError(f"the context has no {name!r}; it has {', '.join(sorted(known))}")
        measured = getattr(context, name)
        if measured is not None and measured != value:
            notes.add(f"the laws were measured with {name} = {measured}, and the target has {value}")
