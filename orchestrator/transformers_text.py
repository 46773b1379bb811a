"""A prediction as Python to paste: a transformers model config with its TrainingArguments."""

from __future__ import annotations

from orchestrator.laws.predict import Context, Prediction
from search_spaces.errors import InputError

_LEAST = ("learning_rate", "batch_tokens", "tokens")
# What transformers calls a model's shape, by our architectures.
_GATED = {
    "depth": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "ffn_width": "intermediate_size",
}
_CONFIGS = {
    "llama": ("LlamaConfig", _GATED, "max_position_embeddings"),
    "qwen3": ("Qwen3Config", _GATED, "max_position_embeddings"),
    "gpt2": (
        "GPT2Config",
        {"depth": "n_layer", "width": "n_embd", "heads": "n_head", "ffn_width": "n_inner"},
        "n_positions",
    ),
}


def training_code(prediction: Prediction, context: Context, sequence_length: int | None) -> str:
    """Python with `config`, where the ladder's shapes are known, and `arguments`. `sequence_length` in tokens.

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
    config = _config(prediction, context, length)
    imports = ["TrainingArguments", *([config[0].split("(")[0].removeprefix("config = ")] if config else [])]
    return "\n".join(
        [
            *(f"# warning: {text}" for text in prediction.warnings),
            f"from transformers import {', '.join(sorted(imports))}",
            "",
            *(config or ["# the laws do not know the shape of a model of this size"]),
            "arguments = TrainingArguments(",
            *(f"    {line}" for line in _arguments(prediction, context, length)),
            ")",
        ]
    )


def _config(prediction: Prediction, context: Context, length: int) -> list[str]:
    """The model config of the predicted shape; empty where the architecture or a part of it is not known."""
    known = _CONFIGS.get(context.architecture or "")
    if known is None or context.vocab_size is None:
        return []
    name, shape, positions = known
    if any(part not in prediction.quantities for part in shape):
        return []
    lines = [f"{theirs}={round(prediction.value(part))}," for part, theirs in shape.items()]
    if shape is _GATED:
        heads, width = round(prediction.value("heads")), round(prediction.value("width"))
        lines += [f"num_key_value_heads={heads},", f"head_dim={width // heads},"]
    lines += [f"{positions}={length},", f"vocab_size={context.vocab_size},", f"tie_word_embeddings={context.tied},"]
    return [f"config = {name}(", *(f"    {line}" for line in lines), ")"]


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
