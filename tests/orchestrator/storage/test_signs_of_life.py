"""A second driver on a storage: refused beside one that lives, after one that it does not know of, and only then."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

from orchestrator.ledger import Ledger, Opened
from orchestrator.storage.recorder import Pace, Recorder
from orchestrator.storage.restore import reconcile, restore
from orchestrator.storage.sign import Sign, await_silence, give, last_sign, place_of, refuse_if_changed
from search_spaces.errors import RunFolderError

QUICK = Pace(copy_every_s=0.02, look_every_s=0.05)
SILENT_S = 1.0
PATIENCE_S = 20.0


def opened(number: int) -> Opened:
    return Opened(time=float(number), sweep="s", sweep_id="x", plan="p", trainer_version="1", software="1", slots=1)


def folder_of(place: Path, *starts: int) -> Path:
    with Ledger.open(place) as ledger:
        for number in starts:
            ledger.append(opened(number))
    return place


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another run folder, empty."""
    folder = tmp_path / "other"
    folder.mkdir()
    return folder


def test_a_storage_without_a_sign_or_with_a_last_one_is_free_at_once(any_store, tmp_path, other, said):
    assert await_silence(any_store, other, said.append) is None
    with Recorder(any_store, folder_of(tmp_path / "run", 1), QUICK):
        pass
    last = await_silence(any_store, other, said.append)
    assert last is not None
    assert last.left
    assert not said


def test_beside_a_driver_that_lives_another_is_refused(any_store, tmp_path, other, said):
    folder = folder_of(tmp_path / "run", 1)
    shutil.copytree(folder, tmp_path / "copy")
    with Recorder(any_store, folder, QUICK) as first:
        for another in (other, tmp_path / "copy"):
            with pytest.raises(RunFolderError, match=r"another driver is at work on storage .*`scalesweep pause"):
                await_silence(any_store, another, said.append, PATIENCE_S)
        first.check()
    assert len(said) == 2


def test_after_a_driver_that_died_without_a_word_another_goes_on(any_store, other, said):
    give(any_store, sign := Sign(place="elsewhere", number=7))
    began = time.monotonic()
    assert await_silence(any_store, other, said.append, SILENT_S) == sign
    assert time.monotonic() - began >= SILENT_S
    assert len(said) == 1


def test_the_own_run_folders_last_driver_is_not_waited_for(any_store, other, said):
    give(any_store, Sign(place=place_of(other), number=7))
    await_silence(any_store, other, said.append)
    assert not said


def test_a_driver_that_leaves_while_it_is_looked_for_makes_room(any_store, other, said):
    give(any_store, Sign(place="elsewhere", number=7))
    leaves = threading.Timer(0.2, lambda: give(any_store, Sign(place="elsewhere", number=7, left=True)))
    leaves.start()
    last = await_silence(any_store, other, said.append, PATIENCE_S)
    leaves.join()
    assert last is not None
    assert last.left


def test_a_driver_that_was_only_silent_is_seen_before_the_next_one_claims(any_store):
    before = Sign(place="elsewhere", number=7)
    give(any_store, before)
    refuse_if_changed(any_store, before)
    give(any_store, Sign(place="elsewhere", number=8))
    with pytest.raises(RunFolderError, match="recorded what this one does not know; give this command again"):
        refuse_if_changed(any_store, before)


def test_a_driver_that_was_refused_at_its_start_goes_on_with_what_the_other_recorded(store, tmp_path):
    first = folder_of(tmp_path / "first", 1, 2)
    with Recorder(store, first, QUICK):
        pass
    second = folder_of(tmp_path / "second", 1, 3)  # its start was written down, and then it was refused
    assert reconcile(store, second, lambda _: None) is not None
    assert (second / "ledger.jsonl").read_bytes() == (first / "ledger.jsonl").read_bytes()


def test_a_busy_driver_that_was_taken_over_hears_of_it_and_touches_nothing(store, tmp_path):
    first = folder_of(tmp_path / "first", 1)
    second = tmp_path / "second"
    shutil.copytree(first, second)
    with Recorder(store, first, QUICK) as old, Ledger.open(first) as ledger:
        with Recorder(store, second, QUICK):
            deadline, number = time.monotonic() + PATIENCE_S, 2
            with pytest.raises(RunFolderError, match=r"another driver \(start 2\) has taken this sweep over"):
                while time.monotonic() < deadline:
                    ledger.append(opened(number))
                    number += 1
                    time.sleep(0.01)
                    old.check()
        left = last_sign(store)
    assert last_sign(store) == left
    assert restore(store, tmp_path / "now").events == 1


def test_a_sign_that_cannot_be_read_is_none(any_store, other, said):
    any_store.put("alive/sign", b"{torn")
    assert last_sign(any_store) is None
    assert await_silence(any_store, other, said.append) is None
