"""One model shape, and what it counts as."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from search_spaces.errors import InputError

# Multiply-adds are two floating point operations; the backward pass costs twice the forward pass
# (Kaplan et al. 2020, section 2.1).
_FLOPS_PER_PARAM_TOKEN = 6


class Architecture(StrEnum):
    """The transformer families whose parameters are counted here and built by trainers.lm."""

    LLAMA = "llama"  # RMSNorm, rotary positions, gated feed-forward, no biases
    GPT2 = "gpt2"  # LayerNorm, learned positions, plain feed-forward, biases
    QWEN3 = "qwen3"  # llama with RMSNorm on queries and keys

    @property
    def gated(self) -> bool:
        """Whether the feed-forward block has a third matrix, the gate."""
        return self is not Architecture.GPT2


@dataclass(frozen=True, kw_only=True)
class ModelScale:
    """One model shape. Lengths are counts; every attention head is width / heads wide."""

    name: str
    depth: int
    width: int
    ffn_width: int
    heads: int
    vocab_size: int
    sequence_length: int
    architecture: Architecture = Architecture.LLAMA
    tied: bool = False  # whether the output head is the input embedding

    def __post_init__(self) -> None:
        if self.architecture not in set(Architecture):
            known = ", ".join(Architecture)
            raise InputError(f"scale {self.name!r}: architecture is {self.architecture!r}; known are {known}")
        object.__setattr__(self, "architecture", Architecture(self.architecture))
        for field in ("depth", "width", "ffn_width", "heads", "vocab_size", "sequence_length"):
            value = getattr(self, field)
            if value < 1:
                raise InputError(f"scale {self.name!r}: {field} is {value}; give a whole number of at least 1")
        if self.width % self.heads:
            raise InputError(
                f"scale {self.name!r}: {self.heads} heads do not divide a width of {self.width}; "
                "choose heads so that width / heads is whole"
            )
        if self.architecture is not Architecture.GPT2 and self.head_width % 2:
            raise InputError(f"scale {self.name!r}: width / heads is {self.head_width}; rotary positions need it even")

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def non_embedding_params(self) -> int:
        """Matrix parameters without embeddings and output head: Kaplan's N (2020, Table 1)."""
        attention = 4 * self.width**2
        feed_forward = (3 if self.architecture.gated else 2) * self.width * self.ffn_width
        return self.depth * (attention + feed_forward)

    @property
    def params(self) -> int:
        """Matrix parameters with the output head, without input embeddings: Porian's N (2024)."""
        return self.non_embedding_params + self.vocab_size * self.width

    @property
    def embedding_params(self) -> int:
        """Parameters that are looked up and not multiplied: token and position tables."""
        positions = self.sequence_length * self.width if self.architecture is Architecture.GPT2 else 0
        return positions + (0 if self.tied else self.vocab_size * self.width)

    @property
    def norm_params(self) -> int:
        """Gains of the normalisation layers (their biases are in bias_params)."""
        per_layer = 2 * self.width + (2 * self.head_width if self.architecture is Architecture.QWEN3 else 0)
        return self.depth * per_layer + self.width

    @property
    def bias_params(self) -> int:
        """Biases of linear and normalisation layers."""
        if self.architecture is not Architecture.GPT2:
            return 0
        linear = 3 * self.width + self.width + self.ffn_width + self.width
        norms = (2 * self.depth + 1) * self.width
        return self.depth * linear + norms

    @property
    def total_params(self) -> int:
        """Everything that is trained: matrices, embeddings, norms and biases."""
        return self.params + self.embedding_params + self.norm_params + self.bias_params

    @property
    def attention_params(self) -> int:
        """Parameters that would cost as much as this model with its attention scores.

        Porian et al. 2024, the `attention` count: N + sequence_length * width * depth.
        """
        return self.params + self.sequence_length * self.width * self.depth

    def flops_per_token(self, convention: FlopsCount | str = "standard") -> int:
        """FLOP to train on one token, by convention; see FlopsCount."""
        counted = {
            FlopsCount.KAPLAN: self.non_embedding_params,
            FlopsCount.STANDARD: self.params,
            FlopsCount.ATTENTION: self.attention_params,
        }
        return _FLOPS_PER_PARAM_TOKEN * counted[FlopsCount(convention)]


class FlopsCount(StrEnum):
    """What counts as training compute."""

    KAPLAN = "kaplan"  # 6 * non_embedding_params * tokens
    STANDARD = "standard"  # 6 * params * tokens
    ATTENTION = "attention"  # standard, plus attention scores
