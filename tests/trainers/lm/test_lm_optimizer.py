"""Weight decay: on the weights that multiply only, and whatever the learning rate."""

from __future__ import annotations

import itertools

import pytest
import torch

from search_spaces.scale import Architecture, ModelScale
from search_spaces.space import HyperParameters
from trainers.lm.model import build_model
from trainers.lm.optimizer import build_optimizer, set_learning_rate

CASES = list(itertools.product(Architecture, (False, True)))


def build(architecture: Architecture, *, tied: bool, learning_rate: float = 1e-3, weight_decay: float = 0.01):
    scale = ModelScale(
        name="s",
        depth=2,
        width=16,
        ffn_width=48,
        heads=2,
        vocab_size=64,
        sequence_length=16,
        architecture=architecture,
        tied=tied,
    )
    model = build_model(scale, seed=0)
    settings = HyperParameters(learning_rate=learning_rate, batch_size=1, beta2=0.95)
    return scale, model, build_optimizer(model, settings, weight_decay=weight_decay, beta1=0.9, eps=1e-8)


def step_without_gradient(model, optimizer):
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()


@pytest.mark.parametrize(("architecture", "tied"), CASES)
def test_exactly_the_counted_matrices_decay(architecture, tied) -> None:
    scale, model, optimizer = build(architecture, tied=tied)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    step_without_gradient(model, optimizer)
    decayed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert sum(before[name].numel() for name in decayed) == scale.params
    for name in decayed:
        assert before[name].ndim == 2
        torch.testing.assert_close(dict(model.named_parameters())[name], before[name] * 0.99)
    embedding = "transformer.wte.weight" if architecture is Architecture.GPT2 else "model.embed_tokens.weight"
    assert (embedding in decayed) is tied  # a tied embedding is the head
    assert not any("norm" in name or "ln_" in name or name.endswith("bias") or "wpe" in name for name in decayed)


@pytest.mark.parametrize("learning_rate", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_decay_follows_the_schedule_and_not_the_learning_rate(learning_rate, factor) -> None:
    _, model, optimizer = build(Architecture.LLAMA, tied=False, learning_rate=learning_rate)
    weight = model.lm_head.weight
    before = weight.clone()
    set_learning_rate(optimizer, learning_rate * factor)
    step_without_gradient(model, optimizer)
    torch.testing.assert_close(weight, before * (1 - 0.01 * factor), rtol=1e-6, atol=0)
