"""A second driver on a storage: refused beside one that lives, after one that it does not know of, and only then."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

from orchestrator.ledger import Ledger, Opened
from orchestrator.storage.recorder import Pace, Recorder
from orchestrator.storage.restore import restore
from orchestrator.storage.sign import Sign, give, last_sign, refuse_beside_another, refuse_unknown
from search_spaces.errors import RunFolderError

QUICK = Pace(copy_every_s=0.02, look_every_s=0.05)
SILENT_S = 1.0


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


def test_a_storage_without_a_sign_or_with_a_last_one_is_free_at_once(any_store, tmp_path, said):
    empty = tmp_path / "empty"
    refuse_beside_another(any_store, empty, said.append)
    with Recorder(any_store, folder_of(tmp_path / "run", 1), QUICK):
        pass
    assert last_sign(any_store) == Sign(opened=1.0, number=last_sign(any_store).number, left=True)
    refuse_beside_another(any_store, empty, said.append)
    assert not said


def test_beside_a_driver_that_lives_another_is_refused(any_store, tmp_path, said):
    with Recorder(any_store, folder_of(tmp_path / "run", 1), QUICK) as first:
        with pytest.raises(RunFolderError, match=r"another driver is at work on storage .*`scalesweep pause"):
            refuse_beside_another(any_store, tmp_path / "other", said.append, 20.0)
        first.check()
    assert len(said) == 1


def test_after_a_driver_that_died_without_a_word_another_goes_on(any_store, tmp_path, said):
    give(any_store, Sign(opened=1.0, number=7))
    began = time.monotonic()
    refuse_beside_another(any_store, tmp_path / "other", said.append, SILENT_S)
    assert time.monotonic() - began >= SILENT_S
    assert len(said) == 1


def test_the_own_run_folders_last_driver_is_not_waited_for(any_store, tmp_path, said):
    give(any_store, Sign(opened=2.0, number=7))
    refuse_beside_another(any_store, folder_of(tmp_path / "run", 1, 2), said.append)
    assert not said


def test_a_driver_that_leaves_while_it_is_looked_for_makes_room(any_store, tmp_path, said):
    give(any_store, Sign(opened=1.0, number=7))
    leaves = threading.Timer(0.2, lambda: give(any_store, Sign(opened=1.0, number=7, left=True)))
    leaves.start()
    refuse_beside_another(any_store, tmp_path / "other", said.append, 20.0)
    leaves.join()


def test_what_another_recorded_while_this_one_started_is_not_lost(store, tmp_path):
    first = folder_of(tmp_path / "first", 1)
    second = tmp_path / "second"
    shutil.copytree(first, second)  # as it was restored
    with Recorder(store, first, QUICK), Ledger.open(first) as ledger:
        pass
    with Ledger.open(first) as ledger:
        ledger.append(opened(2))
    with Recorder(store, first, QUICK):
        pass
    with Ledger.open(second) as ledger:
        ledger.append(opened(3))
    with pytest.raises(RunFolderError, match="recorded what this one does not know; give this command again"):
        Recorder(store, second, QUICK).__enter__()
    assert restore(store, tmp_path / "now").events == 2
    refuse_unknown(store, [1.0, 2.0, 3.0], None)


def test_a_driver_that_died_before_its_start_was_copied_keeps_nobody_out(store, tmp_path):
    folder = folder_of(tmp_path / "run", 1)
    give(store, Sign(opened=0.5))
    with pytest.raises(RunFolderError, match="give this command again"):
        Recorder(store, folder, QUICK).__enter__()
    with Recorder(store, folder, QUICK, before=Sign(opened=0.5, number=3)):
        pass


def test_a_sign_that_cannot_be_read_is_none(any_store, tmp_path, said):
    any_store.put("alive/sign", b"{torn")
    assert last_sign(any_store) is None
    refuse_beside_another(any_store, tmp_path / "other", said.append)
