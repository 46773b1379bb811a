"""The built model holds exactly the parameters that its scale counts."""

from __future__ import annotations

import itertools

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from search_spaces.scale import Architecture, ModelScale
from trainers.lm.model import build_model, linear_weights

SHAPES = [(1, 16, 32, 1), (2, 32, 96, 2), (2, 48, 128, 2), (3, 64, 192, 4), (4, 96, 256, 4), (5, 128, 352, 4)]
CASES = list(itertools.product(SHAPES, Architecture, (False, True)))


def make_scale(shape: tuple[int, int, int, int], architecture: Architecture, *, tied: bool) -> ModelScale:
    depth, width, ffn_width, heads = shape
    return ModelScale(
        name="s",
        depth=depth,
        width=width,
        ffn_width=ffn_width,
        heads=heads,
        vocab_size=256,
        sequence_length=64,
        architecture=architecture,
        tied=tied,
    )


@pytest.mark.parametrize(("shape", "architecture", "tied"), CASES)
def test_counts_are_those_of_the_scale(shape, architecture, tied) -> None:
    scale = make_scale(shape, architecture, tied=tied)
    model = build_model(scale, seed=0)
    named = dict(model.named_parameters())
    biases = sum(p.numel() for name, p in named.items() if name.endswith("bias"))
    embeddings = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    matrices = linear_weights(model)
    multiplying = {id(p) for p in matrices}
    norms = sum(
        p.numel()
        for name, p in named.items()
        if not name.endswith("bias") and id(p) not in multiplying and id(p) not in embeddings
    )
    assert sum(p.numel() for p in matrices) == scale.params
    assert sum(count for key, count in embeddings.items() if key not in multiplying) == scale.embedding_params
    assert norms == scale.norm_params
    assert biases == scale.bias_params
    assert sum(p.numel() for p in named.values()) == scale.total_params


@pytest.mark.parametrize("architecture", Architecture)
def test_a_position_sees_the_past_only(architecture) -> None:
    model = build_model(make_scale((2, 32, 96, 2), architecture, tied=False), seed=0)
    tokens = torch.randint(0, 256, (1, 64), generator=torch.Generator().manual_seed(1))
    changed = tokens.clone()
    changed[0, 40:] = (changed[0, 40:] + 1) % 256
    with torch.no_grad():
        before, after = model(input_ids=tokens).logits, model(input_ids=changed).logits
    assert torch.equal(before[0, :40], after[0, :40])
    assert not torch.allclose(before[0, 40], after[0, 40])


@pytest.mark.parametrize(("architecture", "tied"), list(itertools.product(Architecture, (False, True))))
def test_weights_are_a_function_of_the_seed_and_leave_the_random_state_alone(architecture, tied) -> None:
    scale = make_scale((1, 16, 32, 1), architecture, tied=tied)
    before = torch.get_rng_state()
    one, same, other = build_model(scale, 1), build_model(scale, 1), build_model(scale, 2)
    assert torch.equal(before, torch.get_rng_state())
    for (name, weight), twin in zip(one.named_parameters(), same.parameters(), strict=True):
        assert torch.equal(weight, twin), name
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("architecture", Architecture)
def test_a_new_model_knows_nothing(architecture) -> None:
    """Its loss is near ln(256) whatever the width, so that a learning rate meets a like start everywhere."""
    for shape in SHAPES[1::2]:
        model = build_model(make_scale(shape, architecture, tied=False), seed=0)
        tokens = torch.randint(0, 256, (4, 65), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            logits = model(input_ids=tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        assert 5.4 < loss.item() < 6.6


def test_dropout_is_off_and_gpt2_has_conv1d() -> None:
    model = build_model(make_scale((1, 16, 32, 1), Architecture.GPT2, tied=False), seed=0)
    assert all(m.p == 0 for m in model.modules() if isinstance(m, torch.nn.Dropout))
    assert any(isinstance(m, Conv1D) for m in model.modules())
