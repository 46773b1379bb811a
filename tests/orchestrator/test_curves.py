"""The driver's copies of the curves, and appending in general."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.curves import read_curve, trial_folder, write_points
from orchestrator.files import append, patiently, write_atomically
from search_spaces.errors import RunFolderError
from trainers.api import CurvePoint


def point(tokens: int, loss: float) -> CurvePoint:
    return CurvePoint(tokens=tokens, loss=loss, time=1e9 + tokens, train_loss=loss + 0.1)


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
