"""Parameter and FLOP counts against the papers' formulas, written out here a second time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.errors import InputError
from search_spaces.scale import Architecture, FlopsCount, ModelScale

GPT2_SMALL = ModelScale(
    name="gpt2-small",
    depth=12,
    width=768,
    ffn_width=3072,
    heads=12,
    vocab_size=50257,
    sequence_length=1024,
    architecture=Architecture.GPT2,
    tied=True,
)
LLAMA_7B = ModelScale(
    name="llama-7b", depth=32, width=4096, ffn_width=11008, heads=32, vocab_size=32000, sequence_length=2048
)
SMALL_QWEN3 = ModelScale(
    name="small-qwen3",
    depth=2,
    width=64,
    ffn_width=96,
    heads=4,
    vocab_size=256,
    sequence_length=128,
    architecture=Architecture.QWEN3,
)

scales = st.builds(
    lambda heads, half, **rest: ModelScale(name="any", heads=heads, width=heads * 2 * half, **rest),
    heads=st.integers(1, 16),
    half=st.integers(1, 64),
    depth=st.integers(1, 48),
    ffn_width=st.integers(1, 4096),
    vocab_size=st.integers(1, 100_000),
    sequence_length=st.integers(1, 8192),
    architecture=st.sampled_from(Architecture),
    tied=st.booleans(),
)


def test_gpt2_small_has_its_124439808_parameters() -> None:
    assert GPT2_SMALL.total_params == 124_439_808


def test_llama_7b_has_its_6738415616_parameters() -> None:
    assert LLAMA_7B.total_params == 6_738_415_616


def test_kaplan_count_is_12_depth_width_squared() -> None:
    """Kaplan et al. 2020, equation 2.1, for ffn_width = 4 width."""
    assert GPT2_SMALL.non_embedding_params == 12 * 12 * 768**2


@given(scales)
def test_porian_count_adds_the_head_only(scale: ModelScale) -> None:
    matrices = 3 if scale.architecture is not Architecture.GPT2 else 2
    body = (4 * scale.width + matrices * scale.ffn_width) * scale.width * scale.depth
    assert scale.non_embedding_params == body
    assert scale.params == body + scale.vocab_size * scale.width


@given(scales)
def test_flops_per_token_by_each_convention(scale: ModelScale) -> None:
    attention = 6 * scale.sequence_length * scale.width * scale.depth
    assert scale.flops_per_token(FlopsCount.KAPLAN) == 6 * scale.non_embedding_params
    assert scale.flops_per_token() == 6 * scale.params
    assert scale.flops_per_token("attention") == 6 * scale.params + attention


@given(scales)
def test_total_is_the_sum_of_what_is_listed_apart(scale: ModelScale) -> None:
    parts = scale.params + scale.embedding_params + scale.norm_params + scale.bias_params
    assert scale.total_params == parts


@given(scales)
def test_tying_saves_one_table_and_nothing_else(scale: ModelScale) -> None:
    tied, untied = replace(scale, tied=True), replace(scale, tied=False)
    assert untied.total_params - tied.total_params == scale.vocab_size * scale.width
    assert untied.params == tied.params


def test_qwen3_norms_queries_and_keys_of_each_head() -> None:
    assert SMALL_QWEN3.norm_params == 2 * (64 + 64 + 16 + 16) + 64


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heads": 5}, "5 heads do not divide a width of 4096"),
        ({"depth": 0}, "depth is 0"),
        ({"width": -64}, "width is -64"),
        ({"width": 96, "heads": 32}, "width / heads is 3; rotary positions need it even"),
        ({"architecture": "lama"}, "architecture is 'lama'; known are llama, gpt2, qwen3"),
    ],
)
def test_a_bad_shape_is_refused_with_its_value(change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        replace(LLAMA_7B, **change)


def test_an_architecture_may_be_given_by_name() -> None:
    assert replace(LLAMA_7B, architecture="qwen3").architecture is Architecture.QWEN3
