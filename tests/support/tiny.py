"""Sweeps that are done in a moment: four tiny scales, few trials, planted losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator import config
from orchestrator.config import SweepFile

_SHAPES = ((1, 8, 16), (1, 16, 32), (2, 16, 32), (2, 32, 64))


def ladder(count: int = 4) -> Sequence[dict[str, Any]]:
    """Scales of 768 to 22,528 matrix parameters, as a sweep file has them."""
    return [
        {
            "name": f"s{number}",
            "depth": depth,
            "width": width,
            "ffn_width": ffn_width,
            "heads": 2,
            "vocab_size": 32,
            "sequence_length": 16,
        }
        for number, (depth, width, ffn_width) in enumerate(_SHAPES[:count], start=1)
    ]


def content(*, scales: int = 4, **changes: Any) -> dict[str, Any]:
    """A sweep file's content: three trials a scale, in this process, without Ray."""
    return {
        "name": "tiny",
        "ladder": ladder(scales),
        "tokens_per_param": [5, 20],
        "trials": 3,
        "replicates": 2,
        "space": {
            "learning_rate": {"low": 0.01, "high": 2.0},
            "batch_size": {"low": 1, "high": 64},
            "beta2": {"low": 0.9, "high": 0.999},
        },
        "sampler": "random",
        "trainer": {"name": "synthetic"},
        "cluster": {"address": "in-process", "workers": 2},
    } | changes


def sweep(*, scales: int = 4, **changes: Any) -> SweepFile:
    """The sweep of that content."""
    return config.validate(content(scales=scales, **changes), source="tiny")
