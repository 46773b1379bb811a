"""A request given by the storage while a driver is still starting, before it watches for requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from orchestrator import launch
from orchestrator.config import SweepFile
from orchestrator.ledger import Closed, Opened, Started, read
from orchestrator.progress import Quiet
from orchestrator.storage.driver import recording
from orchestrator.storage.store import FolderStore

# Somebody asks while the trainer is imported, which happens once.
ASKED_MEANWHILE = """
from pathlib import Path

from orchestrator.storage.requests import request
from orchestrator.storage.store import FolderStore
from trainers.api import CurvePoint

request(FolderStore(Path({storage!r})), {what!r})


def train(spec, session):
    for tokens in spec.eval_tokens:
        session.emit(CurvePoint(tokens=tokens, loss=3.0 + spec.settings.learning_rate, time=1.0 + tokens))
"""


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], SweepFile]:
    """A sweep of two trials whose first driver in this process is asked for something."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SCALESWEEP_SCRATCH", str(tmp_path / "scratch"))

    def sweep(what: str) -> SweepFile:
        storage, module = str(tmp_path / "shared"), f"asked_to_{what}"
        (tmp_path / f"{module}.py").write_text(ASKED_MEANWHILE.format(storage=storage, what=what))
        return tiny.sweep(scales=1, trials=2, replicates=1, trainer={"name": f"{module}:train"}, storage=storage)

    return sweep


def test_a_pause_is_obeyed_before_anything_is_trained_and_is_not_the_next_drivers(asking, tmp_path):
    folder = tmp_path / "run"
    assert launch.run(asking("pause"), folder, Quiet()) == 130
    assert (len(read(folder).of(Opened)), read(folder).of(Started), read(folder).of(Closed)) == (1, [], [])
    with recording(FolderStore(tmp_path / "shared"), folder, "id") as record:
        assert not record.requested("pause")
