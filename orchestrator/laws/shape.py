"""Depth, width and heads at a size between or beyond a ladder's, by the trend of its aspect ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

# The trend is not followed further than this factor beyond the ladder's aspect ratios. Kaplan et al.
# 2020, figure 5: a factor of two in aspect ratio costs less than 1 % of loss.
ASPECT_REACH = 1.5
# Feed-forward widths are multiples of this, as matrix kernels like them.
FFN_STEP = 8


@dataclass(frozen=True, kw_only=True)
class LadderShape:
    """One scale's shape; `params` is the count that N means in the laws. `ffn_width` is None where not known."""

    params: float
    depth: int
    width: int
    heads: int
    non_embedding_params: float
    ffn_width: int | None = None


@dataclass(frozen=True, kw_only=True)
class PredictedShape:
    """A shape with about the wanted params: width is a multiple of the ladder's usual head width.

    `non_embedding_params` are those of this shape; `ffn_width` is None where the ladder's is not known.
    """

    depth: int
    width: int
    heads: int
    ffn_width: int | None
    non_embedding_params: float


def predict_shape(ladder: Sequence[LadderShape], params: float) -> PredictedShape | None:
    """The ladder's shape trend at `params`; None where the ladder is empty.

    Params are modelled as p width^2 depth + v width, with p (matrices of a layer) and v (output head
    and whatever else the count has beside the layers) as the ladder's medians.
    """
    if not ladder:
        return None
    per_layer = float(np.median([shape.non_embedding_params / (shape.depth * shape.width**2) for shape in ladder]))
    beside = float(np.median([(shape.params - shape.non_embedding_params) / shape.width for shape in ladder]))
    aspect = _aspect(ladder, params)

    def surplus(log_width: float) -> float:
        width = math.exp(log_width)
        return per_layer * width**3 / aspect + beside * width - params

    width = math.exp(brentq(surplus, math.log(1e-3), math.log(1e9)))
    head_width = float(np.median([shape.width / shape.heads for shape in ladder]))
    heads = max(1, round(width / head_width))
    whole = heads * round(head_width)
    depth = max(1, round((params - beside * whole) / (per_layer * whole**2)))
    return PredictedShape(
        depth=depth,
        width=whole,
        heads=heads,
        ffn_width=_ffn_width(ladder, whole),
        non_embedding_params=per_layer * depth * whole**2,
    )


def _ffn_width(ladder: Sequence[LadderShape], width: int) -> int | None:
    """The ladder's usual multiple of the width, in whole FFN_STEPs."""
    ratios = [shape.ffn_width / shape.width for shape in ladder if shape.ffn_width]
    return max(1, round(float(np.median(ratios)) * width / FFN_STEP)) * FFN_STEP if ratios else None


def _aspect(ladder: Sequence[LadderShape], params: float) -> float:
    """Width over depth by a straight line in logarithms, held near the ladder's range."""
    sizes = np.log([shape.params for shape in ladder])
    aspects = np.log([shape.width / shape.depth for shape in ladder])
    if np.ptp(sizes) < 1e-9:
        return float(np.exp(np.median(aspects)))
    slope, start = np.polyfit(sizes, aspects, 1)
    reach = math.log(ASPECT_REACH)
    place = min(max(start + slope * math.log(params), aspects.min() - reach), aspects.max() + reach)
    return math.exp(place)
