"""Rules for settings and sizes that others published, to stand beside fitted laws. Formulas only, no data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from search_spaces.errors import InputError

PF_DAY = 8.64e19  # FLOP
FLOPS_PER_PARAM_TOKEN = 6
# Kaplan et al. 2020, appendix D.6: the rule for the learning rate breaks beyond this size (it turns negative).
_KAPLAN_LARGEST = 1e10
# Porian et al. 2024: sequence length in tokens, and the largest size trained with beta2 0.99.
_PORIAN_SEQUENCE, _PORIAN_HIGH_BETA2 = 2048, 2.21e8
# Marin's recipe: steps of a run, tokens of a sequence, the highest learning rate, and widths searched for a size.
_MARIN_STEPS = 2**16
_MARIN_SEQUENCE = 4096
_MARIN_HIGHEST_RATE = 0.01
_MARIN_WIDTHS = (16.0, 1e6)


@dataclass(frozen=True, kw_only=True)
class PublishedRule:
    """One rule at one size. `settings` are by the names of `predict`: batch_tokens in tokens.

    `timescale` is AdamW's averaging length as a part of the run, batch / (rate * decay * tokens).
    """

    name: str
    source: str
    validity: str
    settings: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class PublishedAllocation:
    """A published compute-optimal size: params = coefficient * flops^exponent (FLOP)."""

    name: str
    source: str
    coefficient: float
    exponent: float

    def params(self, flops: float) -> float:
        """N*(C)."""
        return float(self.coefficient * flops**self.exponent)


ALLOCATIONS = (
    PublishedAllocation(
        name="Kaplan",
        source="Kaplan et al. 2020, arXiv:2001.08361, table 6 (params without embeddings and head)",
        coefficient=1.3e9 / PF_DAY**0.73,
        exponent=0.73,
    ),
    PublishedAllocation(
        name="Kaplan, fixed batch",
        source="Kaplan et al. 2020, arXiv:2001.08361, figure 14, as drawn by Porian et al. 2024",
        coefficient=1.6e9 / PF_DAY**0.88,
        exponent=0.88,
    ),
    PublishedAllocation(
        name="Hoffmann",
        source="Hoffmann et al. 2022, arXiv:2203.15556: 20 tokens a parameter (all params)",
        coefficient=1 / math.sqrt(120),
        exponent=0.5,
    ),
    PublishedAllocation(
        name="DeepSeek",
        source="DeepSeek-AI 2024, arXiv:2401.02954, section 3.2: FLOP a token / 6 (with attention, no embeddings)",
        coefficient=0.1715 / FLOPS_PER_PARAM_TOKEN,
        exponent=0.5243,
    ),
    PublishedAllocation(
        name="Porian",
        source="Porian et al. 2024, arXiv:2406.19146, table 1, tuned, RefinedWeb (params with head)",
        coefficient=76.9e9 / 5.88e23**0.497,
        exponent=0.497,
    ),
    PublishedAllocation(
        name="Besiroglu",
        source="Besiroglu et al. 2024, arXiv:2404.10102: Hoffmann's approach 3 fitted again (all params)",
        coefficient=0.1196 / FLOPS_PER_PARAM_TOKEN**0.5126,
        exponent=0.5126,
    ),
)


@dataclass(frozen=True)
class _Size:
    params: float
    tokens: float
    non_embedding_params: float

    @property
    def flops(self) -> float:
        """Without embeddings and head, as Kaplan and DeepSeek count; attention is left out."""
        return FLOPS_PER_PARAM_TOKEN * self.non_embedding_params * self.tokens


def _kaplan(size: _Size) -> dict[str, float]:
    batch = {"batch_tokens": 2.0e6 * (size.flops / PF_DAY) ** 0.24}
    if size.non_embedding_params > _KAPLAN_LARGEST:
        return batch
    return {"learning_rate": 0.003239 - 0.0001395 * math.log(size.non_embedding_params), **batch}


def _deepseek(size: _Size) -> dict[str, float]:
    return {"learning_rate": 0.3118 * size.flops**-0.1250, "batch_tokens": 0.2920 * size.flops**0.3271}


def _porian(size: _Size) -> dict[str, float]:
    return {
        "learning_rate": 3.7 * size.params**-0.36,
        "batch_tokens": 0.00037 * size.params**0.703 * _PORIAN_SEQUENCE,
        "beta2": 0.99 if size.params <= _PORIAN_HIGH_BETA2 else 0.95,
    }


def _step_law(size: _Size) -> dict[str, float]:
    return {
        "learning_rate": 1.79 * size.non_embedding_params**-0.713 * size.tokens**0.307,
        "batch_tokens": 0.58 * size.tokens**0.571,
    }


def _bjorck(size: _Size) -> dict[str, float]:
    return {"learning_rate": 1.55e-3 * (size.params / 1e9) ** -0.23 * (size.tokens / 1e9) ** -0.32}


def _power_lines(size: _Size) -> dict[str, float]:
    return {"timescale": 1.084 * (size.tokens / size.params) ** -0.527}


def weight_decay(timescale: float, *, learning_rate: float, batch_tokens: float, tokens: float) -> float:
    """AdamW's decay (multiplied by the learning rate each step) of a timescale: batch / (timescale * rate * tokens).

    Bergsma et al. 2025, arXiv:2505.13738.
    """
    return batch_tokens / (timescale * learning_rate * tokens)


def _marin(size: _Size) -> dict[str, float]:
    """The learning rate is 0.33 sqrt(batch) / width, at most 0.01 by halving the batch; beta2 = 0.98^(batch / 128).

    The batch is in sequences of Marin's own length, whatever the target's is.
    """
    width = _marin_width(size.non_embedding_params)
    batch = 2.0 ** max(0, math.ceil(math.log2(size.tokens / _MARIN_SEQUENCE / _MARIN_STEPS)))
    while batch > 1 and 0.33 * math.sqrt(batch) / width > _MARIN_HIGHEST_RATE:
        batch /= 2
    return {
        "learning_rate": min(0.33 * math.sqrt(batch) / width, _MARIN_HIGHEST_RATE),
        "batch_tokens": batch * _MARIN_SEQUENCE,
        "beta2": 0.98 ** (batch / 128),
    }


def _marin_width(params: float) -> float:
    """Width at which Marin's depth, width / (64 + 4 log2 width - 9), gives so many matrix parameters."""
    low, high = _MARIN_WIDTHS
    for _ in range(60):
        width = math.sqrt(low * high)
        depth = width / (64 + 4 * math.log2(width) - 9)
        low, high = (width, high) if 16 * width**2 * depth < params else (low, width)
    return math.sqrt(low * high)


_RULES: tuple[tuple[str, str, str, Callable[[_Size], dict[str, float]]], ...] = (
    (
        "Kaplan",
        "Kaplan et al. 2020, arXiv:2001.08361, equation D.1 and table 6",
        "768 to 1.5e9 params without embeddings, breaks beyond 1e10; cosine to zero; its runs: 2^19 tokens a batch",
        _kaplan,
    ),
    (
        "DeepSeek",
        "DeepSeek-AI 2024, arXiv:2401.02954, section 3.1",
        "1e17 to 2e19 FLOP without embeddings; multi-step schedule; its FLOP count has attention, left out here",
        _deepseek,
    ),
    (
        "Porian",
        "Porian et al. 2024, arXiv:2406.19146, section 4",
        "2.5e7 to 1.1e8 params with head, 20 tokens a parameter; constant schedule; sequences of 2048",
        _porian,
    ),
    (
        "Step Law",
        "Li et al. 2025, arXiv:2503.04715",
        "6e7 to 1e9 params without embeddings; cosine to 1e-5",
        _step_law,
    ),
    (
        "Bjorck",
        "Bjorck et al. 2024, arXiv:2409.19913",
        "one fixed batch, so that the tokens exponent has the other sign",
        _bjorck,
    ),
    (
        "Power Lines",
        "Bergsma et al. 2025, arXiv:2505.13738",
        "1.1e8 to 3.3e9 params under muP; linear decay to zero; a rule for the weight decay, by its timescale",
        _power_lines,
    ),
    (
        "Marin",
        "marin-community/marin, experiments/isoflop_sweep.py",
        "1e18 to 1e20 FLOP; 2^16 steps; sequences of 4096; weight decay 0.1; decay over the last fifth",
        _marin,
    ),
)


def published_rules(
    params: float, tokens: float, *, non_embedding_params: float | None = None
) -> tuple[PublishedRule, ...]:
    """What each published rule says for a size, whether or not it was made for that size.

    Rules made for params without embeddings take `params` where those are not known. Raises InputError
    where a number is not positive.
    """
    size = _Size(params, tokens, params if non_embedding_params is None else non_embedding_params)
    for name, value in vars(size).items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value:g}; it must be a positive finite number")
    return tuple(
        PublishedRule(name=name, source=source, validity=validity, settings=rule(size))
        for name, source, validity, rule in _RULES
    )
