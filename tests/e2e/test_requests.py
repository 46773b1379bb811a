"""`pause` and `stop` find the driver at every moment of its life, or say that there is none."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import tiny
from shell import ENVIRONMENT, PATIENCE_S, SCALESWEEP, write_sweep

from orchestrator.cli import main
from orchestrator.ledger import Closed, in_use, read

# The import takes a while, as that of torch or the tokenising of a corpus does; then each trial takes long.
SLOW = """
import time
from pathlib import Path
version = "1"
time.sleep({begin})
def train(spec, session):
    from trainers.api import TrialPaused
    for _ in range(600):
        if session.should_stop():
            raise TrialPaused("asked to leave")
        time.sleep(0.1)
"""
Start = Callable[[float], subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.chdir(tmp_path)
    write_sweep(tmp_path, tiny.content(trainer={"name": "slow:train"}))
    drivers: list[subprocess.Popen[str]] = []

    def begin(seconds: float) -> subprocess.Popen[str]:
        (tmp_path / "slow.py").write_text(SLOW.format(begin=seconds))
        command = [SCALESWEEP, "run", "sweep.yaml", "--dir", "run"]
        drivers.append(
            subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
        return drivers[-1]

    yield begin
    for driver in drivers:
        with suppress(ProcessLookupError):
            driver.kill()
        driver.communicate()


def ask(what: str) -> None:
    """As soon as a driver has the folder, and not before."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        taken = in_use(Path("run"))
        if main([what, "run"]) == 0:
            return
        assert not taken, f"a driver had the folder, and {what} was refused"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("begin_s", [0.0, 1.5])
def test_a_pause_right_after_the_start_is_obeyed(start: Start, begin_s: float) -> None:
    driver = start(begin_s)
    ask("pause")
    said, _ = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 130, said
    assert "paused: everything is kept in run; the same command goes on" in said
    assert read(Path("run")).of(Closed) == []


def test_a_stop_right_after_the_start_is_obeyed(start: Start) -> None:
    driver = start(0.5)
    ask("stop")
    said, _ = driver.communicate(timeout=PATIENCE_S)
    (closed,) = read(Path("run")).of(Closed)
    assert closed.how == "stopped", said


def test_without_a_driver_a_pause_is_refused_and_a_stop_ends_the_sweep(start: Start, capsys) -> None:
    driver = start(0.0)
    ask("pause")
    driver.communicate(timeout=PATIENCE_S)
    capsys.readouterr()
    assert main(["pause", "run"]) == 2
    assert "no driver has the run folder run: there is nothing to pause" in capsys.readouterr().err
    assert main(["stop", "run"]) == 0
    assert "it is stopped for good" in capsys.readouterr().out
    assert main(["stop", "run"]) == 0
    assert "has ended already" in capsys.readouterr().out
