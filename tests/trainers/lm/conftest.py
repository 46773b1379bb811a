"""A small corpus, small scales, and a session that remembers."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces.scale import ModelScale
from search_spaces.space import HyperParameters
from trainers.api import CurvePoint, TrialSpec

TEXT = "the loss of a model falls as a power of its size and of the data that it was trained on"
WORDS = TEXT.split()


class RecordingSession:
    """Keeps what a trainer says; asks it to leave after so many tokens' points if told to."""

    def __init__(self, workspace: Path, attempt: int = 1, stop: bool = False) -> None:
        self.workspace = workspace
        self.attempt = attempt
        self.stop = stop
        self.points: list[CurvePoint] = []
        self.resumed: list[int] = []

    def emit(self, point: CurvePoint) -> None:
        self.points.append(point)

    def should_stop(self) -> bool:
        return self.stop

    def resumed_at(self, tokens: int) -> None:
        self.resumed.append(tokens)


def write_corpus(folder: Path, documents: int = 300, seed: int = 0) -> str:
    """Random sentences, one document a file; returns a glob."""
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(documents):
        text = " ".join(chance.choices(WORDS, k=60))
        (folder / f"{number:04d}.txt").write_text(f"{number}: {text}.\n", encoding="utf-8")
    return str(folder / "*.txt")


@pytest.fixture(scope="session", name="write_corpus")
def fixture_write_corpus() -> Callable[..., str]:
    return write_corpus


@pytest.fixture(scope="session")
def session_in() -> type[RecordingSession]:
    """The class: `session_in(workspace, attempt)`."""
    return RecordingSession


@pytest.fixture(scope="session")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Trainer options with a prepared corpus of about 75 thousand bytes."""
    folder = tmp_path_factory.mktemp("lm")
    return {
        "corpus": write_corpus(folder / "corpus"),
        "data_dir": str(folder / "data"),
        "validation_tokens": 4096,
    }


@pytest.fixture
def scale() -> ModelScale:
    return ModelScale(name="tiny", depth=1, width=16, ffn_width=32, heads=1, vocab_size=256, sequence_length=32)


@pytest.fixture
def spec(scale: ModelScale) -> TrialSpec:
    """Forty steps of four sequences, with points at every tenth."""
    return TrialSpec(
        key="0123456789abcdef",
        scale=scale,
        tokens=40 * 128,
        eval_tokens=tuple(10 * 128 * k for k in (1, 2, 3, 4)),
        served_tokens=(20 * 128, 40 * 128),
        settings=HyperParameters(learning_rate=1e-2, batch_size=4, beta2=0.95),
        seed=3,
    )
