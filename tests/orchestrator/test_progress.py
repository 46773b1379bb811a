"""What a running sweep shows."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import tiny

from orchestrator.goal import Goal
from orchestrator.ledger import Closed, Ended, History, Opened, Proposed, Started
from orchestrator.progress import Lines, LiveTable, Quiet, as_text, copy_line, display, duration, goal_lines, headline
from orchestrator.status import SweepStatus, sweep_status
from orchestrator.steering import Steering
from orchestrator.storage.copied import Copied
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
    return sweep_status(PLAN, history, now=100.0, steering=Steering(plan=PLAN, goal=Goal()))


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


def test_searches_that_are_over_and_the_goal_are_said() -> None:
    shown = status(ended=3)
    searches = [replace(search, over="settled: enough is known") for search in shown.searches[:2]]
    searches.append(replace(shown.searches[2], over="all of its trials were proposed"))
    goal = replace(
        shown.goal, target=(7e9, 1.4e11), expected_regret=0.0025, wanted_regret=0.001, flops=2e20, most_flops=1e21
    )
    said = as_text(replace(shown, searches=(*searches, shown.searches[3]), goal=goal))
    assert f"over: {PLAN.searches[0].name}, {PLAN.searches[1].name} (settled: enough is known)" in said
    assert f"over: {PLAN.searches[2].name} (all of its trials were proposed)" in said
    assert "target: 7B params, 140B tokens; expected regret 0.25 %, wanted below 0.1 %" in said
    assert "budget: 2e20 of 1e21 FLOP spent" in said
    assert "expected regret of the target 0.25 %" in headline(replace(shown, goal=goal))
    assert "at most" in headline(replace(shown, goal=goal))
    later = goal_lines(replace(goal, expected_regret=None, most_flops=None, most_device_hours=3.0, device_hours=1.5))
    assert later[0].endswith("expected regret not known yet, wanted below 0.1 %")
    assert later[1] == "budget: 1.5 of 3 device-hours spent"


def test_without_a_goal_nothing_is_said_of_one() -> None:
    assert goal_lines(status(ended=3).goal) == []
    assert "over:" not in as_text(status(ended=1))


def test_how_far_the_copy_in_storage_is_behind_is_one_line() -> None:
    behind = Copied(storage="s3://b/mine", written_at=97.0, events=1412, events_here=1415)
    assert copy_line(behind, 100.0) == "storage: s3://b/mine has 1,412 of 1,415 events, copied 3 s ago"
    assert copy_line(replace(behind, events=1415), 100.0) == "storage: s3://b/mine has all 1,415 events, copied 3 s ago"
    alone = Copied(storage="s3://b/mine", written_at=97.0)
    assert copy_line(alone, 169.0) == "storage: s3://b/mine, as of 1 min 12 s ago; it has no sign of a driver"
    seen = replace(alone, driver_seen_at=99.0)
    assert copy_line(seen, 169.0) == (
        "storage: s3://b/mine, as of 1 min 12 s ago; its driver's last sign of life is 1 min 10 s old"
    )
    left = replace(seen, driver_left=True)
    assert copy_line(left, 90.0) == "storage: s3://b/mine, as of 0 s ago; its driver has left"  # its clock is ahead
    silent = Copied(storage="s3://b/mine", problem="did not answer within 5 s")
    assert copy_line(silent, 100.0) == "storage: s3://b/mine did not answer within 5 s"
    other = Copied(storage="s3://b/mine", problem="has another record", written_at=97.0)
    assert copy_line(other, 100.0) == "storage: s3://b/mine has another record (copied 3 s ago)"
