"""A transformers model from a ModelScale. Heavy imports happen inside: transformers takes seconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from search_spaces.scale import Architecture, ModelScale

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def config_of(scale: ModelScale) -> PretrainedConfig:
    """The configuration: no dropout, no cache, as many key heads as heads."""
    builders = {Architecture.LLAMA: _llama, Architecture.GPT2: _gpt2, Architecture.QWEN3: _qwen3}
    config = builders[scale.architecture](scale)
    config.use_cache = False
    return config


def build_model(scale: ModelScale, seed: int, attention: str = "sdpa") -> PreTrainedModel:
    """A fresh model in fp32 on the CPU, its weights a function of the seed alone."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config_of(scale), attn_implementation=attention)
        _initialise(model, scale)
    return model


def linear_weights(model: nn.Module) -> list[nn.Parameter]:
    """The weights that multiply: those of linear layers and of the head, once each.

    They are the parameters that `ModelScale.params` counts. A tied head is the input embedding and is
    one of them.
    """
    from transformers.pytorch_utils import Conv1D

    multiplying = (module for module in model.modules() if isinstance(module, (nn.Linear, Conv1D)))
    found = {id(module.weight) for module in multiplying}
    return [weight for weight in model.parameters() if id(weight) in found]


def _common(scale: ModelScale) -> dict[str, Any]:
    # Special tokens name vocabulary entries that a small vocabulary has not got.
    return {
        "vocab_size": scale.vocab_size,
        "tie_word_embeddings": scale.tied,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _llama(scale: ModelScale) -> PretrainedConfig:
    from transformers import LlamaConfig

    return LlamaConfig(**_common(scale), **_gated(scale))


def _qwen3(scale: ModelScale) -> PretrainedConfig:
    from transformers import Qwen3Config

    return Qwen3Config(**_common(scale), **_gated(scale))


def _gated(scale: ModelScale) -> dict[str, Any]:
    return {
        "num_hidden_layers": scale.depth,
        "hidden_size": scale.width,
        "intermediate_size": scale.ffn_width,
        "num_attention_heads": scale.heads,
        "num_key_value_heads": scale.heads,
        "head_dim": scale.head_width,
        "max_position_embeddings": scale.sequence_length,
    }


def _gpt2(scale: ModelScale) -> PretrainedConfig:
    from transformers import GPT2Config

    return GPT2Config(
        **_common(scale),
        n_layer=scale.depth,
        n_embd=scale.width,
        n_inner=scale.ffn_width,
        n_head=scale.heads,
        n_positions=scale.sequence_length,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )


@torch.no_grad()
def _initialise(model: nn.Module, scale: ModelScale) -> None:
    """Normal weights of deviation 1/sqrt(inputs), less for the two that write to the residual stream.

    transformers draws every matrix with deviation 0.02, which suits widths near a thousand only: after 205
    thousand tokens a model of width 32 has 0.07 nats less this way.
    """
    from transformers.pytorch_utils import Conv1D

    residual = 1 / math.sqrt(2 * scale.depth)  # Radford et al. 2019
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            inputs = module.weight.shape[1]  # a tied one is the head, whose inputs these are
        elif isinstance(module, Conv1D):
            inputs = module.weight.shape[0]
        elif isinstance(module, nn.Linear):
            inputs = module.weight.shape[1]
        else:
            continue
        writes = name.endswith(("o_proj", "down_proj", "c_proj"))
        module.weight.normal_(0.0, (residual if writes else 1.0) / math.sqrt(inputs))
