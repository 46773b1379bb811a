"""What a running sweep shows."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import tiny

from orchestrator.ledger import Closed, Ended, History, Opened, Proposed, Started
from orchestrator.progress import Lines, LiveTable, Quiet, as_text, display, duration, headline
from orchestrator.status import SweepStatus, sweep_status
from orchestrator.trial import Reason, TrialState
from search_spaces.space import HyperParameters
from trainers.api import Cause, TrialResult

PLAN = tiny.sweep().plan()


def status(*, ended: int, running: int = 0, diverged: int = 0, closed: bool = False) -> SweepStatus:
    """Trials of s1 that are `ended`, some of them diverged, and some that run."""
    history = History()
    history.apply(
        Opened(time=0, sweep="tiny", sweep_id="i", plan="p", trainer_version="v", software="0", slots=2),
    )
    cell = PLAN.searches[0].cell
    settings = HyperParameters(learning_rate=0.0123, batch_size=4, beta2=0.98)
    for number in range(ended + running):
        key = f"k{number}"
        history.apply(
            Proposed(
                time=0,
                key=key,
                number=number,
                scale="s1",
                tokens=cell.tokens,
                settings=settings,
                seed=number,
                reason=Reason.MODEL,
            )
        )
        history.apply(Started(time=float(number), key=key, attempt=1))
        if number < ended:
            bad = number < diverged
            result = TrialResult(final_loss=3.0 + number, diverged=bad, tokens=cell.tokens, seconds=2.0)
            state = TrialState.DIVERGED if bad else TrialState.COMPLETED
            history.apply(Ended(time=number + 2.0, key=key, attempt=1, state=state, result=result))
    if closed:
        history.apply(Closed(time=99, how="stopped", message="by its user"))
    return sweep_status(PLAN, history, now=100.0)


def test_a_pipe_gets_plain_lines() -> None:
    out = io.StringIO()
    shown = display(out)
    assert isinstance(shown, Lines)
    shown.say("hello")
    for ended in range(4):
        shown.update(status(ended=ended))
    shown.close()
    lines = out.getvalue().splitlines()
    assert lines[0] == "hello"
    assert lines[1].startswith("0/14 trials")
    assert lines[2].startswith("3/14 trials")  # those in between came within ten seconds
    assert len(lines) == 3
    assert "\x1b" not in out.getvalue()


def test_the_last_line_is_not_said_twice() -> None:
    out = io.StringIO()
    shown = Lines(out)
    shown.update(status(ended=2))
    shown.close()
    assert len(out.getvalue().splitlines()) == 1


def test_the_headline_has_what_matters() -> None:
    said = headline(status(ended=3, running=1, diverged=1))
    for part in ("3/14 trials", "1 running", "1 diverged", "slots", "left", "best 4.0000 at lr 0.0123 · batch 4"):
        assert part in said
    assert "failed" not in said


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    table = LiveTable()
    table.say("hello [not markup]")
    table.update(status(ended=2, running=1))
    table.close()
    out = capsys.readouterr().out
    assert "hello [not markup]" in out
    for search in PLAN.searches:
        assert search.name in out
    assert "2/4" in out


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Quiet()
    quiet.say("hello")
    quiet.update(status(ended=1))
    quiet.close()
    assert capsys.readouterr().out == ""


def test_the_whole_status_as_text() -> None:
    shown = replace(status(ended=3, diverged=1, closed=True), causes={Cause.NODE_LOST.value: 2}, repeated_tokens=1234)
    said = as_text(shown)
    assert said.startswith("tiny: stopped")
    for search in PLAN.searches:
        assert search.name in said
    assert "failed attempts: 2 node lost" in said
    assert "lost work: 1,234 tokens" in said
    assert said.endswith("by its user")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (12, "12 s"), (59.6, "1 min 0 s"), (250, "4 min 10 s"), (3600, "1 h 0 min"), (12000, "3 h 20 min")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
