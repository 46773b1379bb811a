"""Rules for settings and sizes that others published, to stand beside fitted laws. Formulas only, no data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from search_spaces.errors import InputError

PF_DAY = 8.64e19  # FLOP
FLOPS_PER_PARAM_TOKEN = 6
# Marin's recipe: steps of a run, the highest learning rate, and widths that are searched for a size.
_MARIN_STEPS = 2**16
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
        source="Kaplan et al. 2020, table 6 (params without embeddings and head)",
        coefficient=1.3e9 / PF_DAY**0.73,
        exponent=0.73,
    ),
    PublishedAllocation(
        name="Kaplan, fixed batch",
        source="Kaplan et al. 2020, figure 14, as drawn by Porian et al. 2024",
        coefficient=1.6e9 / PF_DAY**0.88,
        exponent=0.88,
    ),
    PublishedAllocation(
        name="Hoffmann",
        source="Hoffmann et al. 2022: 20 tokens a parameter",
        coefficient=1 / math.sqrt(120),
        exponent=0.5,
    ),
)


@dataclass(frozen=True)
class _Size:
    params: float
    tokens: float
    sequence_length: int

    @property
    def flops(self) -> float:
        return FLOPS_PER_PARAM_TOKEN * self.params * self.tokens


def _kaplan(size: _Size) -> dict[str, float]:
    return {"learning_rate": 0.003239 - 0.0001395 * math.log(size.params)}


def _deepseek(size: _Size) -> dict[str, float]:
    return {"learning_rate": 0.3118 * size.flops**-0.1250, "batch_tokens": 0.2920 * size.flops**0.3271}


def _porian(size: _Size) -> dict[str, float]:
    return {
        "learning_rate": 3.7 * size.params**-0.36,
        "batch_tokens": 0.00037 * size.params**0.703 * 2048,
        "beta2": 0.99 if size.params <= 2.21e8 else 0.95,
    }


def _step_law(size: _Size) -> dict[str, float]:
    return {
        "learning_rate": 1.79 * size.params**-0.713 * size.tokens**0.307,
        "batch_tokens": 0.58 * size.tokens**0.571,
    }


def _bjorck(size: _Size) -> dict[str, float]:
    return {"learning_rate": 1.55e-3 * (size.params / 1e9) ** -0.23 * (size.tokens / 1e9) ** -0.32}


def _power_lines(size: _Size) -> dict[str, float]:
    return {"timescale": 1.084 * (size.tokens / size.params) ** -0.527}


def _marin(size: _Size) -> dict[str, float]:
    """The learning rate is 0.33 sqrt(batch) / width, at most 0.01 by halving the batch; beta2 = 0.98^(batch / 128)."""
    width = _marin_width(size.params)
    batch = 2.0 ** max(0, math.ceil(math.log2(size.tokens / size.sequence_length / _MARIN_STEPS)))
    while batch > 1 and 0.33 * math.sqrt(batch) / width > _MARIN_HIGHEST_RATE:
        batch /= 2
    return {
        "learning_rate": min(0.33 * math.sqrt(batch) / width, _MARIN_HIGHEST_RATE),
        "batch_tokens": batch * size.sequence_length,
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
        "Kaplan et al. 2020, equation D.1",
        "params without embeddings, below 1e10; cosine to zero; batch of 2^19 tokens",
        _kaplan,
    ),
    (
        "DeepSeek",
        "DeepSeek-AI 2024, arXiv:2401.02954, section 3.1",
        "1e17 to 2e19 FLOP; multi-step schedule; its FLOP count has attention, which is left out here",
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
        "fixed batch, so that the tokens exponent has the other sign",
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


def published_rules(params: float, tokens: float, sequence_length: int) -> tuple[PublishedRule, ...]:
    """What each published rule says for a size, whether or not it was made for that size.

    Raises InputError where a number is not positive.
    """
    for name, value in (("params", params), ("tokens", tokens), ("sequence_length", sequence_length)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value:g}; it must be a positive finite number")
    size = _Size(params, tokens, sequence_length)
    return tuple(
        PublishedRule(name=name, source=source, validity=validity, settings=rule(size))
        for name, source, validity, rule in _RULES
    )
