"""The driver's copies of the curves, and appending in general."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.curves import CurveWriter, read_curve, trial_folder, whole_curve, write_points
from orchestrator.files import append, patiently, write_atomically
from orchestrator.trial import Reason, Trial, TrialState
from search_spaces.errors import RunFolderError
from search_spaces.space import HyperParameters
from trainers.api import CurvePoint, TrialResult


def point(tokens: int, loss: float) -> CurvePoint:
    return CurvePoint(tokens=tokens, loss=loss, time=1e9 + tokens, train_loss=loss + 0.1)


def completed(key: str, loss: float) -> Trial:
    return Trial(
        key=key,
        number=0,
        scale="s1",
        tokens=2,
        settings=HyperParameters(learning_rate=1e-3, batch_size=1, beta2=0.9),
        seed=0,
        reason=Reason.SAMPLER,
        proposed_at=0.0,
        state=TrialState.COMPLETED,
        result=TrialResult(final_loss=loss, diverged=False, tokens=2, seconds=1.0),
    )


def curve_file(folder: Path) -> Path:
    return trial_folder(folder, "key") / "curve.jsonl"


def test_a_curve_is_read_as_it_was_written(tmp_path: Path) -> None:
    points = tuple(point(tokens, 5 / tokens) for tokens in (1, 2, 4))
    write_points(tmp_path, "key", 1, points[:2])
    write_points(tmp_path, "key", 1, points[2:])
    assert read_curve(tmp_path, "key") == points
    assert read_curve(tmp_path, "another") == ()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), max_size=12))
def test_the_highest_attempt_counts_whatever_the_order(tmp_path_factory: pytest.TempPathFactory, written) -> None:
    folder = tmp_path_factory.mktemp("curves")
    newest: dict[int, int] = {}
    for attempt, tokens in written:
        write_points(folder, "key", attempt, [point(tokens, float(attempt))])
        newest[tokens] = max(newest.get(tokens, 0), attempt)
    assert {p.tokens: p.loss for p in read_curve(folder, "key")} == newest
    assert [p.tokens for p in read_curve(folder, "key")] == sorted(newest)


def test_a_torn_last_line_is_left_out_and_written_over(tmp_path: Path) -> None:
    write_points(tmp_path, "key", 1, [point(1, 5.0), point(2, 4.0)])
    path = curve_file(tmp_path)
    os.truncate(path, path.stat().st_size - 3)
    assert [p.tokens for p in read_curve(tmp_path, "key")] == [1]
    write_points(tmp_path, "key", 2, [point(2, 4.0)])
    assert [p.tokens for p in read_curve(tmp_path, "key")] == [1, 2]


@pytest.mark.parametrize("line", ["", "{", "5", "null", '{"tokens": 3}', '{"attempt": 1, "tokens": 3, "lss": 2}'])
def test_a_damaged_line_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    write_points(tmp_path, "key", 1, [point(1, 5.0)])
    with curve_file(tmp_path).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(RunFolderError, match="line 2 is damaged"):
        read_curve(tmp_path, "key")


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_anywhere_in_a_line_is_refused(tmp_path: Path, bit: int) -> None:
    write_points(tmp_path, "key", 1, [point(1, 5.25), point(2, 4.125)])
    path = curve_file(tmp_path)
    whole = path.read_bytes()
    for at in range(whole.index(b"\n")):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        with pytest.raises(RunFolderError, match=r"line [12] is damaged"):
            read_curve(tmp_path, "key")


def test_points_that_are_trained_again_are_written_once(tmp_path: Path) -> None:
    first, second = CurveWriter(tmp_path), CurveWriter(tmp_path)
    assert first.write("key", 1, [point(1, 5.0), point(2, 4.0)]) == (point(1, 5.0), point(2, 4.0))
    again = dataclasses.replace(point(2, 4.0), time=9e9)
    for writer in (first, second):  # the same driver, and the one after it
        assert writer.write("key", 2, [again, point(3, 3.0)]) == ((point(3, 3.0),) if writer is first else ())
    assert read_curve(tmp_path, "key") == (point(1, 5.0), point(2, 4.0), point(3, 3.0))
    other = point(2, 3.5)  # by other hardware, say
    assert first.write("key", 3, [other]) == (other,)
    assert read_curve(tmp_path, "key")[1] == other


def test_the_curve_of_a_trial_that_ended_must_have_its_end(tmp_path: Path) -> None:
    write_points(tmp_path, "key", 1, [point(1, 5.0), point(2, 4.0)])
    trial = completed("key", loss=4.0)
    assert whole_curve(tmp_path, trial) == (point(1, 5.0), point(2, 4.0))
    path = curve_file(tmp_path)
    os.truncate(path, path.read_bytes().index(b"\n") + 1)
    with pytest.raises(RunFolderError, match="after line 1 points are missing"):
        whole_curve(tmp_path, trial)
    path.unlink()
    with pytest.raises(RunFolderError, match="after line 0 points are missing"):
        whole_curve(tmp_path, trial)


def test_append_cuts_a_file_of_one_torn_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("torn")
    append(tmp_path / "file", b"whole\n")
    assert (tmp_path / "file").read_text() == "whole\n"


def test_write_atomically_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    for text in (b"old", b"new"):
        write_atomically(tmp_path / "file", text)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_waited_for() -> None:
    tries = []

    def action() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return "written"

    assert patiently(action) == "written"
    assert len(tries) == 2


def test_another_error_is_not_waited_for() -> None:
    def action() -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError):
        patiently(action)
