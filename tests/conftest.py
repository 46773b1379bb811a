"""What several areas' tests share: one small trial, and one Ray session for the whole suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from search_spaces.scale import ModelScale
from search_spaces.space import HyperParameters
from trainers.api import TrialSpec

MakeSpec = Callable[..., TrialSpec]


@pytest.fixture(scope="session")
def make_spec() -> MakeSpec:
    """A trial of a tiny scale: 2**19 tokens, evaluated at 2**16, 2**18 and the end."""

    def make(key: str = "trial", learning_rate: float = 0.03, seed: int = 1, batch_size: int = 16) -> TrialSpec:
        scale = ModelScale(name="s1", depth=2, width=32, ffn_width=64, heads=2, vocab_size=256, sequence_length=128)
        settings = HyperParameters(learning_rate=learning_rate, batch_size=batch_size, beta2=0.98)
        evaluations = (2**16, 2**18, 2**19)
        return TrialSpec(key=key, scale=scale, tokens=2**19, eval_tokens=evaluations, settings=settings, seed=seed)

    return make


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Two CPUs and eight pretended GPUs. Pools that start while it is there join it."""
    import ray

    from orchestrator.engine.cluster import connect

    connect("local", cpus=2, gpus=8)
    yield
    ray.shutdown()
