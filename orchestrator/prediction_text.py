"""A prediction for people: a table beside the published rules, and settings to paste into a transformers script."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.laws.predict import Context, Predicted, Prediction
from orchestrator.laws.published import ALLOCATIONS, PublishedRule
from orchestrator.numbers import count, number
from search_spaces.errors import InputError

_COUNTS = ("params", "tokens", "batch_tokens", "warmup_tokens")
_WHOLE = ("depth", "width", "heads")
_DIGITS = {"beta2": 5, "loss": 4}
_LEAST = ("learning_rate", "batch_tokens", "tokens")


def prediction_text(prediction: Prediction, rules: Sequence[PublishedRule]) -> str:
    """The quantities with both intervals, what published rules say for the same size, and the warnings."""
    rows = [("", "value", "interval of the mean", "interval of one run")]
    rows += [(name, *_predicted(name, found)) for name, found in prediction.quantities.items()]
    parts = [_aligned(rows), _published(prediction, rules)]
    parts += ["\n".join(f"warning: {text}" for text in prediction.warnings)] if prediction.warnings else []
    return "\n\n".join(parts)


def training_arguments(prediction: Prediction, context: Context, sequence_length: int | None) -> str:
    """Settings for transformers.TrainingArguments, as Python. `sequence_length` is the target's, in tokens.

    Raises InputError where a setting was not predicted, or the sequence length is not known.
    """
    missing = [name for name in _LEAST if name not in prediction.quantities]
    if missing:
        raise InputError(
            f"{missing[0]} is not predicted ({'; '.join(prediction.warnings) or 'no law of it'}); "
            "fit runs that vary it, or use --json for what there is"
        )
    length = sequence_length or context.sequence_length
    if length is None:
        raise InputError("the laws do not say how long a sequence is; give --seq-len, in tokens")
    lines = _arguments(prediction, context, length)
    warnings = [f"# warning: {text}" for text in prediction.warnings]
    return "\n".join([*warnings, "TrainingArguments(", *(f"    {line}" for line in lines), ")"])


def _arguments(prediction: Prediction, context: Context, sequence_length: int) -> list[str]:
    batch = max(1, round(prediction.value("batch_tokens") / sequence_length))
    steps = max(1, round(prediction.value("tokens") / (batch * sequence_length)))
    warmup = round(prediction.value("warmup_tokens") / (batch * sequence_length))
    learning_rate = prediction.value("learning_rate")
    lines = [
        f"learning_rate={learning_rate:.3g},",
        f"per_device_train_batch_size={batch},  # sequences of {sequence_length} tokens, all devices together: "
        "divide by devices * gradient_accumulation_steps",
    ]
    if "beta2" in prediction.quantities:
        lines.append(f"adam_beta2={prediction.value('beta2'):.5g},")
    if context.weight_decay is not None:
        decay = f"weight_decay={context.weight_decay / learning_rate:.3g},"
        lines.append(f"{decay}  # {context.weight_decay:g} a step: AdamW multiplies it by the learning rate")
    return [*lines, f"max_steps={steps},", f"warmup_steps={warmup},", *_schedule(context.schedule, steps)]


def _schedule(schedule: str | None, steps: int) -> list[str]:
    """The schedule that the laws hold for, in transformers' words, with the ends that our trainer gives it."""
    from trainers.lm.schedule import COSINE_FINAL, DECAY_FRACTION

    known = {
        "constant": ['lr_scheduler_type="constant_with_warmup",'],
        "cosine": [
            'lr_scheduler_type="cosine_with_min_lr",',
            f'lr_scheduler_kwargs={{"min_lr_rate": {COSINE_FINAL}}},',
        ],
        "wsd": [
            'lr_scheduler_type="warmup_stable_decay",',
            f'lr_scheduler_kwargs={{"num_decay_steps": {round(DECAY_FRACTION * steps)}, "decay_type": "1-sqrt"}},',
        ],
    }
    return known.get(schedule or "", ["# lr_scheduler_type: the laws do not say which schedule they hold for"])


def _predicted(name: str, found: Predicted) -> tuple[str, str, str]:
    def show(value: float) -> str:
        if name in _WHOLE:
            return str(round(value))
        return count(value) if name in _COUNTS else number(value, _DIGITS.get(name, 3))

    def span(low: float | None, high: float | None) -> str:
        return "" if low is None or high is None else f"{show(low)} to {show(high)}"

    return show(found.value), span(found.low, found.high), span(found.predictive_low, found.predictive_high)


def _published(prediction: Prediction, rules: Sequence[PublishedRule]) -> str:
    rows = [("published rules", "learning_rate", "batch_tokens", "beta2", "made for")]
    for rule in rules:
        known = rule.settings
        settings = [number(known[name]) if name in known else "" for name in ("learning_rate", "batch_tokens", "beta2")]
        settings[1] = count(known.get("batch_tokens")) if "batch_tokens" in known else ""
        others = "".join(f"; {name} {number(value)}" for name, value in known.items() if name == "timescale")
        rows.append((rule.name, settings[0], settings[1], settings[2], rule.validity + others))
    flops = prediction.value("flops")
    optimal = ", ".join(f"{each.name} {count(each.params(flops))}" for each in ALLOCATIONS)
    return f"{_aligned(rows)}\ncompute-optimal params at these flops: {optimal}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in padded)
