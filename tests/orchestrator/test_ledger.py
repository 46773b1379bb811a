"""The ledger: what was written is read, damage is refused, a full disk and a killed driver harm nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.ledger import Closed, Ended, Event, Ledger, Opened, Predicted, Proposed, Started, in_use, read
from orchestrator.trial import Reason, TrialState
from search_spaces.errors import RunFolderError
from search_spaces.space import HyperParameters
from trainers.api import Cause, TrialResult

PATIENCE_S = 30.0
SETTINGS = HyperParameters(learning_rate=3e-4, batch_size=8, beta2=0.98)


def proposed(key: str = "a", number: int = 0) -> Proposed:
    return Proposed(
        time=1.0, key=key, number=number, scale="s1", tokens=1024, settings=SETTINGS, seed=0, reason=Reason.MODEL
    )


def story() -> list[Event]:
    """A trial that is lost once and then completed, and the sweep's end."""
    result = TrialResult(final_loss=3.25, diverged=False, tokens=1024, seconds=2.0, facts={"gpu": "none"})
    return [
        Opened(time=0.0, sweep="t", sweep_id="id", plan="p", trainer_version="v", software="0", slots=2),
        proposed(),
        Started(time=2.0, key="a", attempt=1),
        Ended(time=3.0, key="a", attempt=1, state=TrialState.WAITING, cause=Cause.WORKER_LOST, message="gone"),
        Started(time=4.0, key="a", attempt=2),
        Ended(time=5.0, key="a", attempt=2, state=TrialState.COMPLETED, result=result, worker="w"),
        Closed(time=6.0, how="done"),
    ]


def write(folder: Path, events: Sequence[Event]) -> Path:
    with Ledger.open(folder) as ledger:
        for event in events:
            ledger.append(event)
    return folder / "ledger.jsonl"


times = st.floats(0, 2e9)
finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=40)
hyperparameters = st.builds(
    HyperParameters,
    learning_rate=st.floats(0, exclude_min=True, allow_infinity=False),
    batch_size=st.integers(1, 2**20),
    beta2=st.floats(0, 1, exclude_max=True),
)
results = st.builds(
    TrialResult,
    final_loss=st.none() | finite,
    diverged=st.booleans(),
    tokens=st.integers(0, 2**60),
    seconds=st.floats(0, 1e9),
    tokens_per_second=st.none() | finite,
    repeated_tokens=st.integers(0, 2**40),
    message=texts,
    facts=st.dictionaries(texts, finite | st.integers() | texts, max_size=3),
)
json_values = st.recursive(
    st.none() | st.booleans() | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
free_events = st.one_of(
    st.builds(
        Opened,
        time=times,
        sweep=texts,
        sweep_id=texts,
        plan=texts,
        trainer_version=texts,
        software=texts,
        slots=st.integers(0, 10_000),
    ),
    st.builds(
        Predicted,
        time=times,
        scale=texts,
        tokens=st.integers(1, 2**60),
        runs_used=st.integers(0, 1000),
        prediction=st.dictionaries(texts, json_values, max_size=3),
    ),
    st.builds(Closed, time=times, how=texts, message=texts),
)


@st.composite
def trial_stories(draw: st.DrawFn) -> list[Event]:
    """A trial from its proposal through some attempts, as a driver could have written it."""
    key = draw(texts)
    events: list[Event] = [
        draw(
            st.builds(
                Proposed,
                time=times,
                key=st.just(key),
                number=st.integers(0, 10_000),
                scale=texts,
                tokens=st.integers(1, 2**60),
                settings=hyperparameters,
                seed=st.integers(0, 2**31),
                reason=st.sampled_from(Reason),
            )
        )
    ]
    attempts = draw(st.integers(0, 4))
    for attempt in range(1, attempts + 1):
        events.append(Started(time=draw(times), key=key, attempt=attempt))
        last = attempt == attempts
        state = draw(st.sampled_from([s for s in TrialState if s.ended])) if last else TrialState.WAITING
        if draw(st.booleans()) or not last:
            end = st.builds(
                Ended,
                time=times,
                key=st.just(key),
                attempt=st.just(attempt),
                state=st.just(state),
                result=st.none() | results,
                cause=st.none() | st.sampled_from(Cause),
                message=texts,
                worker=texts,
            )
            events.append(draw(end))
    return events


@settings(max_examples=40, deadline=None)
@given(st.lists(free_events, max_size=4), trial_stories(), st.lists(free_events, max_size=2))
def test_what_was_written_is_read(before: list[Event], trial: list[Event], after: list[Event]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        events = [*before, *trial, *after]
        write(Path(folder), events)
        assert read(Path(folder)).events == events
        with Ledger.open(Path(folder)) as again:
            assert again.history.events == events


def test_the_events_add_up_to_trials(tmp_path: Path) -> None:
    write(tmp_path, story())
    (trial,) = read(tmp_path).trials.values()
    assert (trial.state, trial.attempt, trial.loss) == (TrialState.COMPLETED, 2, 3.25)
    assert trial.failures == {Cause.WORKER_LOST: 1}
    assert (trial.cause, trial.started_at, trial.ended_at, trial.worker) == (None, 2.0, 5.0, "w")


def test_the_end_of_an_older_attempt_changes_nothing(tmp_path: Path) -> None:
    late = Ended(time=9.0, key="a", attempt=1, state=TrialState.FAILED, cause=Cause.BUG)
    write(tmp_path, [*story()[:5], late])
    (trial,) = read(tmp_path).trials.values()
    assert (trial.state, trial.attempt, trial.cause) == (TrialState.RUNNING, 2, Cause.WORKER_LOST)


def test_a_torn_last_line_is_dropped_wherever_it_was_torn(tmp_path: Path) -> None:
    path = write(tmp_path, story())
    whole = path.read_bytes()
    start_of_last = whole[:-1].rfind(b"\n") + 1
    for length in range(start_of_last, len(whole)):
        path.write_bytes(whole[:length])
        assert read(tmp_path).events == story()[:-1]
    with Ledger.open(tmp_path) as ledger:
        ledger.append(story()[-1])
    assert path.read_bytes() == whole


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole ledger, to be damaged."""
    return write(tmp_path_factory.mktemp("damaged"), story())


@settings(max_examples=300, deadline=None)
@given(part=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_is_refused_with_its_line(damaged: Path, part: float, flip: int) -> None:
    whole = damaged.read_bytes()
    # Without the last line break the last line is a torn one.
    place = int(part * (len(whole) - 1))
    number = whole[:place].count(b"\n") + 1
    try:
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
        with pytest.raises(RunFolderError, match=rf"ledger\.jsonl: line {number} is damaged"):
            read(damaged.parent)
        with pytest.raises(RunFolderError, match=rf"line {number} is damaged"):
            Ledger.open(damaged.parent)
        assert not in_use(damaged.parent)
    finally:
        damaged.write_bytes(whole)


def test_lines_that_cannot_follow_each_other_are_damage(tmp_path: Path) -> None:
    path = write(tmp_path, story())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[4]]))  # a completed trial that starts again
    with pytest.raises(RunFolderError, match="line 8 is damaged"):
        read(tmp_path)


def test_a_folder_without_a_ledger_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is not a run folder"):
        read(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError, match="cannot be written"):
        Ledger.open(tmp_path / "file" / "run")


HOLD = """
import sys, time
from pathlib import Path
from orchestrator.ledger import Ledger
from search_spaces.errors import RunFolderError
try:
    with Ledger.open(Path(sys.argv[1])):
        sys.stdout.write("taken\\n")
        sys.stdout.flush()
        sys.stdin.read()
except RunFolderError as error:
    sys.exit(str(error))
"""


def second_driver(folder: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLD, str(folder)]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    with Ledger.open(tmp_path):
        assert in_use(tmp_path)
        with second_driver(tmp_path) as other:
            said = other.communicate(timeout=PATIENCE_S)[1].strip().splitlines()
        assert other.returncode == 1
        assert len(said) == 1
        assert "is in use by another driver (process " in said[0]
    assert not in_use(tmp_path)


def test_a_dead_driver_keeps_no_lock(tmp_path: Path) -> None:
    with second_driver(tmp_path) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        with pytest.raises(RunFolderError, match=rf"process {other.pid}\)"):
            Ledger.open(tmp_path)
        other.send_signal(signal.SIGKILL)
        other.wait(PATIENCE_S)
    with Ledger.open(tmp_path) as ledger:
        ledger.append(story()[0])
    assert len(read(tmp_path).events) == 1


# A file may not grow beyond so many bytes: a write that reaches the limit is cut short, like on a full disk.
FILL = """
import resource, sys
from pathlib import Path
from orchestrator.ledger import Closed, Ledger
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
written = 0
with Ledger.open(Path(sys.argv[1])) as ledger:
    try:
        while True:
            ledger.append(Closed(time=float(written), how="done", message="x" * 60))
            written += 1
    except OSError:
        size = ledger.path.stat().st_size
        assert len(ledger.history.events) == written
sys.stdout.write(f"{written} {size}")
"""


def test_a_write_that_does_not_fit_leaves_the_file_whole(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    written, size = map(int, shown.stdout.split())
    content = (tmp_path / "ledger.jsonl").read_bytes()
    assert 0 < written < 15
    assert len(content) == size
    assert content.endswith(b"\n")
    assert len(read(tmp_path).events) == written
