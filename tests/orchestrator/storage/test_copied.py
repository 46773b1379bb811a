"""How far the copy in storage is behind, as `status` says it: beside the run folder, alone, and without an answer."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
import tiny
from rig import one_search

from orchestrator.cli import main
from orchestrator.curves import write_points
from orchestrator.ledger import read
from orchestrator.runfolder import RunFolder
from orchestrator.storage.copied import Copied, CopyWatch
from orchestrator.storage.recorder import Pace, Recorder
from orchestrator.storage.segments import DRIVER, decode, segment_names
from trainers.api import CurvePoint

PATIENCE_S = 20.0
STILL = Pace(copy_every_s=600.0)  # copies at its start and at its end


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with three trials, whose sweep has a storage."""
    folder = tmp_path / "run"
    folder.mkdir()
    RunFolder(folder).keep(tiny.sweep(scales=1, trials=3, replicates=1, storage=str(tmp_path / "shared")))
    one_search(folder).run()
    return folder


def looked(store, folder: Path | None) -> Copied:
    return CopyWatch(store.address, patience_s=PATIENCE_S).look(folder)


def test_it_says_how_many_of_the_events_are_there(store, folder):
    assert looked(store, folder) == Copied(storage=store.address, problem="has nothing of this sweep yet")
    ledger = folder / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:5]))
    with Recorder(store, folder, STILL):
        ledger.write_bytes(b"".join(lines))
        found = looked(store, folder)
        assert (found.problem, found.events, found.events_here) == ("", 5, len(lines))
        assert found.written_at is not None
        assert abs(found.written_at - time.time()) < PATIENCE_S
        assert found.driver_seen_at is not None
        assert abs(found.driver_seen_at - time.time()) < PATIENCE_S
        assert not found.driver_left
    found = looked(store, folder)
    assert (found.problem, found.events, found.events_here) == ("", len(lines), len(lines))
    assert found.driver_left
    with ledger.open("ab") as file:
        file.write(lines[-1][:10])  # a line that is being written is no event yet
    assert looked(store, folder).events_here == len(lines)


def test_the_newest_piece_alone_tells_it(store, folder):
    """Where only curves have grown since, too."""
    key = next(iter(read(folder).trials))
    with Recorder(store, folder, STILL) as recorder:
        for tokens in (10**9, 10**9 + 1):
            write_points(folder, key, 1, [CurvePoint(tokens=tokens, loss=1.0, time=1.0)])
            recorder._copy()
    newest = segment_names(store.names(DRIVER))[-1]
    assert newest.number == 2
    (ledger, curve) = decode(store.get(str(newest)), name=newest).parts
    assert (ledger.path, ledger.data, curve.path) == ("ledger.jsonl", b"", f"trials/{key}/curve.jsonl")
    events = len(read(folder).events)
    found = looked(store, folder)
    assert (found.problem, found.events, found.events_here) == ("", events, events)


def test_a_copy_of_another_record_is_said(store, folder):
    with Recorder(store, folder):
        pass
    ledger = folder / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    for here in (lines[:-1], lines[1:]):
        ledger.write_bytes(b"".join(here))
        assert looked(store, folder).problem.startswith("has another record than this folder")


def test_damage_is_said(store, folder):
    with Recorder(store, folder):
        pass
    store.put(str(segment_names(store.names(DRIVER))[-1]), b"rubbish")
    assert looked(store, folder).problem == "cannot be read: its checksum does not match"


def test_a_storage_that_does_not_answer_is_waited_for_a_moment_and_asked_once(store, folder):
    """Reading a pipe hangs, as the folder of a file server does that is gone."""
    with Recorder(store, folder):
        pass
    (piece,) = segment_names(store.names(DRIVER))
    path, content = Path(store.address) / str(piece), store.get(str(piece))
    path.unlink()
    os.mkfifo(path)
    watch = CopyWatch(store.address, patience_s=0.1)
    for _ in range(3):
        assert watch.look(folder).problem == "did not answer within 0.1 s"
    (waiting,) = [thread for thread in threading.enumerate() if thread.name == "scalesweep-storage"]
    path.write_bytes(content)  # it answers
    waiting.join(PATIENCE_S)
    assert watch.look(folder).problem == ""


def test_status_says_it(store, folder, capsys):
    with Recorder(store, folder):
        pass
    events = len(read(folder).events)
    assert main(["status", str(folder)]) == 0
    assert f"\nstorage: {store.address} has all {events} events, copied " in capsys.readouterr().out
    assert main(["status", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["ended"], said["storage"]["events"], said["storage"]["problem"]) == (3, events, "")
    assert main(["status", store.address]) == 0
    assert f"\nstorage: {store.address}, as of " in capsys.readouterr().out
    shutil.rmtree(store.address)
    assert main(["status", str(folder)]) == 0
    assert f"\nstorage: {store.address} has nothing of this sweep yet" in capsys.readouterr().out


def test_status_of_a_sweep_without_storage_says_nothing_of_it(folder, capsys):
    RunFolder(folder).keep(tiny.sweep(scales=1, trials=3, replicates=1))
    assert main(["status", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["storage"] is None
    assert main(["status", str(folder)]) == 0
    assert "storage" not in capsys.readouterr().out
