"""Named ladders: ordered lists of scales."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from search_spaces.errors import InputError
from search_spaces.scale import ModelScale

# The trainer's byte tokenizer, and a context short enough for one CPU core.
_BYTES = 256
_SHORT_CONTEXT = 128
# Porian et al. 2024: the GPT-NeoX-20B tokenizer padded to a multiple of 128, and its context.
_NEOX_VOCAB = 50_432
_PORIAN_CONTEXT = 2048


@dataclass(frozen=True)
class _Shape:
    depth: int
    width: int
    ffn_width: int
    heads: int


def _swiglu_width(width: int) -> int:
    """8/3 of the width, rounded up to a multiple of 256 (open_lm, used by Porian et al. 2024)."""
    return 256 * -(-(8 * width // 3) // 256)


def _ladder(shapes: tuple[_Shape, ...], *, vocab_size: int, sequence_length: int) -> tuple[ModelScale, ...]:
    return tuple(
        ModelScale(
            name=f"s{number}",
            depth=shape.depth,
            width=shape.width,
            ffn_width=shape.ffn_width,
            heads=shape.heads,
            vocab_size=vocab_size,
            sequence_length=sequence_length,
        )
        for number, shape in enumerate(shapes, start=1)
    )


# Depth, width, heads. Depths and widths are those of Porian et al. 2024. Heads are ours: 4 everywhere, as
# their FLOP count implies, would make heads 24 to 376 wide, and fused attention stops at 256. These are 48 to
# 94 wide: the width nearest 64 in multiples of 8, which fused attention needs no padding for; 1312 and
# 1504 have no such divisor above 32, so those two are padded. No count depends on them.
_PORIAN = (
    (3, 96, 2),
    (4, 128, 2),
    (5, 160, 2),
    (6, 224, 4),
    (8, 288, 4),
    (9, 320, 5),
    (10, 384, 6),
    (12, 480, 6),
    (14, 576, 9),
    (15, 640, 10),
    (18, 704, 11),
    (21, 832, 13),
    (23, 1024, 16),
    (26, 1120, 20),
    (26, 1312, 16),
    (30, 1504, 16),
)

# Byte-level models for a CPU core: 16 tokens per parameter take from seconds to minutes. Width / depth
# rises from 8 to 24, ffn_width is about 8/3 of the width.
_EVENING = (
    _Shape(2, 16, 48, 1),
    _Shape(2, 24, 64, 1),
    _Shape(2, 32, 96, 1),
    _Shape(2, 48, 128, 2),
    _Shape(3, 48, 128, 2),
    _Shape(3, 56, 152, 2),
)

LADDERS: Mapping[str, tuple[ModelScale, ...]] = MappingProxyType(
    {
        "laptop": _ladder(_EVENING[:4], vocab_size=_BYTES, sequence_length=_SHORT_CONTEXT),
        "evening": _ladder(_EVENING, vocab_size=_BYTES, sequence_length=_SHORT_CONTEXT),
        "porian": _ladder(
            tuple(_Shape(depth, width, _swiglu_width(width), heads) for depth, width, heads in _PORIAN),
            vocab_size=_NEOX_VOCAB,
            sequence_length=_PORIAN_CONTEXT,
        ),
    }
)
"""The named ladders, each smallest scale first."""


def ladder(name: str) -> tuple[ModelScale, ...]:
    """The scales of a named ladder, smallest first.

    Raises InputError, with the nearest known name, where there is none.
    """
    if name in LADDERS:
        return LADDERS[name]
    near = difflib.get_close_matches(name, LADDERS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "list the scales themselves, or take one of these."
    raise InputError(f"there is no ladder named {name!r}; {hint} Known: {', '.join(LADDERS)}")
