"""The driver's record in storage: copied, restored, damaged, and fought over by two drivers."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import one_search

from orchestrator.curves import write_points
from orchestrator.ledger import read
from orchestrator.runfolder import RunFolder
from orchestrator.storage.driver import recording, restored
from orchestrator.storage.recorder import Pace, Recorder
from orchestrator.storage.requests import request
from orchestrator.storage.restore import Restored, reconcile, restore
from orchestrator.storage.sealed import DamagedError
from orchestrator.storage.segments import Chain, Part, Segment, SegmentName, decode, segment_names
from orchestrator.storage.store import FolderStore
from search_spaces.errors import RunFolderError, StorageError
from trainers.api import CurvePoint

PATIENCE_S = 20.0
QUICK = Pace(copy_every_s=0.02, look_every_s=0.02)
SWEEP = tiny.sweep(scales=1, trials=3, replicates=1)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def record_of(folder: Path) -> dict[str, bytes]:
    paths = [folder / "ledger.jsonl", folder / "sweep.yaml", *folder.glob("trials/*/curve.jsonl")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run folder with three trials."""
    folder = tmp_path_factory.mktemp("finished")
    RunFolder(folder).keep(SWEEP)
    one_search(folder).run()
    return folder


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def no_check(place: Path) -> None: ...


def test_what_is_appended_arrives_and_comes_back(any_store, folder, tmp_path):
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_bytes(lines[0])
    with Recorder(any_store, folder, QUICK) as recorder:
        assert recorder.generation == 1
        for line in lines[1:-1]:
            with (folder / "ledger.jsonl").open("ab") as file:
                file.write(line)
            time.sleep(0.03)
        with (folder / "ledger.jsonl").open("ab") as file:
            file.write(lines[-1][:10])  # a line that is being written
    found = restore(any_store, tmp_path / "new")
    assert found == Restored(events=len(lines) - 1, segments_lost=0)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines[:-1]))
    assert record_of(tmp_path / "new") == record_of(folder)


def test_nothing_in_storage_is_nothing_to_restore(any_store, tmp_path):
    assert restore(any_store, tmp_path) is None
    (tmp_path / "run").mkdir()
    assert reconcile(any_store, tmp_path / "run", no_check) is None
    assert list((tmp_path / "run").iterdir()) == []


def test_each_start_takes_the_next_generation_and_tidies(store, folder):
    for generation in (1, 2, 3):
        with Recorder(store, folder) as recorder:
            assert recorder.generation == generation
    chains = {name.chain for name in segment_names(store.names("driver/"))}
    assert chains == {Chain(2, 0), Chain(3, 0)}
    (claim,) = [name for name in store.names("driver/") if "claim" in name]
    assert claim.startswith("driver/g000003/claim-")


def test_a_long_chain_is_written_anew(store, folder, tmp_path):
    ledger = folder / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"")
    with Recorder(store, folder, Pace(copy_every_s=0.02, longest_chain=3)):
        for line in lines:
            with ledger.open("ab") as file:
                file.write(line)
            size = ledger.stat().st_size
            until(lambda size=size: stored_bytes(store) >= size)
    chains = {name.chain.number for name in segment_names(store.names("driver/"))}
    assert len(chains) == 2
    assert min(chains) >= 1
    assert restore(store, tmp_path / "new") == Restored(events=len(lines), segments_lost=0)
    assert record_of(tmp_path / "new") == record_of(folder)


def stored_bytes(store: FolderStore) -> int:
    """How much of the ledger storage has."""
    ends = [0]
    for name in segment_names(store.names("driver/")):
        with suppress(FileNotFoundError):  # tidied meanwhile
            parts = decode(store.get(str(name)), name=name).parts
            ends += [part.offset + len(part.data) for part in parts if part.path == "ledger.jsonl"]
    return max(ends)


def test_a_driver_of_an_older_generation_ends_with_a_clear_message(store, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    with recording(store, folder, "id", QUICK) as old:
        old.check()
        with recording(store, tmp_path / "other", "id", QUICK) as new:
            assert old.ref is not None
            assert new.ref is not None
            assert (old.ref.generation, new.ref.generation) == (1, 2)
            with pytest.raises(RunFolderError, match=r"another driver \(start 2\) has taken this sweep over"):
                until(lambda: old.check() is not None)
            new.check()
    # What the old one still writes on its own disk harms nobody.
    assert restore(store, tmp_path / "new") is not None
    assert record_of(tmp_path / "new") == record_of(tmp_path / "other")


def test_of_two_drivers_that_start_at_once_at_most_one_has_the_generation(tmp_path, folder):
    both = threading.Barrier(2)

    class Slow(FolderStore):
        def names(self, prefix):
            found = super().names(prefix)
            if prefix == "driver/" and not found:
                both.wait(PATIENCE_S)
            return found

    outcomes: list[int | RunFolderError] = []

    def start() -> None:
        try:
            with Recorder(Slow(tmp_path / "shared"), folder) as recorder:
                outcomes.append(recorder.generation)
        except RunFolderError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(outcomes) == 2
    assert outcomes.count(1) <= 1
    for outcome in outcomes:
        assert outcome == 1 or "another driver starts on storage" in str(outcome)


def test_requests_arrive_from_another_host_and_a_pause_is_for_one_driver(any_store, folder):
    with recording(any_store, folder, "id", QUICK) as record:
        assert not record.requested("pause")
        request(any_store, "pause")
        until(lambda: record.requested("pause"))
        assert not record.requested("stop")
        request(any_store, "pause")  # again, while it is obeyed
    with recording(any_store, folder, "id", QUICK) as record:
        time.sleep(10 * QUICK.look_every_s)
        assert not record.requested("pause")
        request(any_store, "stop")
        until(lambda: record.requested("stop"))
    with recording(any_store, folder, "id", QUICK) as record:
        assert record.requested("stop")


def test_a_request_that_is_older_than_the_watch_for_it_is_seen_at_once(any_store, folder):
    slow = Pace(look_every_s=600.0)
    request(any_store, "pause")
    with recording(any_store, folder, "id", slow) as record:
        assert record.requested("pause")
    with recording(any_store, folder, "id", slow) as record:
        assert not record.requested("pause")


def test_a_pause_that_storage_did_not_let_go_of_is_removed_later(folder, tmp_path):
    class Sticky(FolderStore):
        stuck = True

        def remove(self, names):
            if self.stuck and any(name.startswith("requests/") for name in names):
                raise StorageError("no answer")
            super().remove(names)

    store = Sticky(tmp_path / "shared")
    with recording(store, folder, "id", QUICK) as record:
        request(store, "pause")
        until(lambda: record.requested("pause"))
        store.stuck = False
    with recording(store, folder, "id", QUICK) as record:
        assert not record.requested("pause")


def test_a_driver_that_was_taken_over_leaves_requests_to_the_other(store, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    with recording(store, folder, "id", QUICK) as old:
        with recording(store, tmp_path / "other", "id", Pace(look_every_s=600.0)):
            with pytest.raises(RunFolderError, match="has taken this sweep over"):
                until(lambda: old.check() is not None)
            request(store, "pause")
        assert not old.requested("pause")
    with recording(store, tmp_path / "other", "id", QUICK) as new:
        assert new.requested("pause")


def test_an_outage_is_said_once_and_caught_up_with(folder, tmp_path, caplog):
    class Failing(FolderStore):
        down = False

        def put(self, name, data):
            if self.down:
                raise StorageError("no space")
            super().put(name, data)

    store = Failing(tmp_path / "shared")
    with Recorder(store, folder, QUICK):
        store.down = True
        write_points(folder, "0123", 1, [CurvePoint(tokens=1, loss=1.0, time=1.0)])
        until(lambda: "not copied" in caplog.text)
        time.sleep(0.2)
        store.down = False
        until(lambda: "has the whole record" in caplog.text)
    assert caplog.text.count("not copied") == 1


# Restoring into a run folder


def test_a_folder_that_is_gone_comes_back_and_a_shorter_one_is_brought_up_to_date(store, folder, tmp_path):
    with Recorder(store, folder):
        pass
    said: list[str] = []
    (tmp_path / "empty").mkdir()
    restored(store, tmp_path / "empty", SWEEP, said.append)
    assert record_of(tmp_path / "empty") == record_of(folder)
    events = len(read(folder).events)
    assert f"{events} events were restored" in said[0]
    older = tmp_path / "older"
    shutil.copytree(folder, older)
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (older / "ledger.jsonl").write_bytes(b"".join(lines[:4]) + b"torn")
    next(older.glob("trials/*/curve.jsonl")).unlink()
    restored(store, older, SWEEP, said.append)
    assert record_of(older) == record_of(folder)
    assert not (older / ".restoring").exists()


def test_a_folder_that_has_more_stays_as_it_is(store, folder):
    lines = (folder / "ledger.jsonl").read_bytes()
    (folder / "ledger.jsonl").write_bytes(b"".join(lines.splitlines(keepends=True)[:-2]))
    with Recorder(store, folder):
        pass
    (folder / "ledger.jsonl").write_bytes(lines)
    before = record_of(folder)
    assert reconcile(store, folder, no_check) is None
    assert record_of(folder) == before


def test_records_that_contradict_each_other_are_refused(store, folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines[:5]))
    one_search(folder).run()  # goes on with other times
    with Recorder(store, folder):
        pass
    with pytest.raises(
        RunFolderError, match=r"other and storage .*shared hold different records: 5 events are the same"
    ):
        reconcile(store, other, no_check)
    assert (other / "ledger.jsonl").read_bytes().splitlines(keepends=True) == lines


def test_another_sweep_in_the_storage_is_refused(store, folder, tmp_path):
    with Recorder(store, folder):
        pass
    (tmp_path / "mine").mkdir()
    other = tiny.sweep(scales=1, trials=5, replicates=1)
    with pytest.raises(RunFolderError, match=r"storage .*shared holds a sweep with another trials"):
        restored(store, tmp_path / "mine", other, print)
    assert list((tmp_path / "mine").iterdir()) == []


def test_points_of_attempts_that_the_ledger_lost_are_left_out(store, folder, tmp_path):
    key, trial = next(iter(read(folder).trials.items()))
    write_points(folder, key, trial.attempt + 1, [CurvePoint(tokens=1, loss=9.0, time=1.0)])
    write_points(folder, "unknown", 1, [CurvePoint(tokens=1, loss=9.0, time=1.0)])
    with Recorder(store, folder):
        pass
    restore(store, tmp_path / "new")
    lines = (folder / f"trials/{key}/curve.jsonl").read_bytes().splitlines(keepends=True)
    assert (tmp_path / f"new/trials/{key}/curve.jsonl").read_bytes() == b"".join(lines[:-1])
    assert (tmp_path / "new/trials/unknown/curve.jsonl").read_bytes() == b""


# Damage


@pytest.fixture(scope="module")
def recorded(finished, tmp_path_factory) -> Path:
    """A storage with an older chain, and a newest one of five segments."""
    place = tmp_path_factory.mktemp("recorded")
    store, folder = FolderStore(place / "shared"), place / "run"
    shutil.copytree(finished, folder)
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines[:3]))
    with Recorder(store, folder):
        pass
    with Recorder(store, folder) as recorder:
        for line in lines[3:7]:
            with (folder / "ledger.jsonl").open("ab") as file:
                file.write(line)
            recorder._copy()
    return place


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_is_detected_and_the_record_before_it_used(recorded, tmp_path_factory, data):
    place = tmp_path_factory.mktemp("damaged")
    shutil.copytree(recorded / "shared", place / "shared")
    store = FolderStore(place / "shared")
    names = [name for name in segment_names(store.names("driver/")) if name.chain.generation == 2]
    assert len(names) == 5
    damaged = data.draw(st.sampled_from(names))
    path, was = place / "shared" / str(damaged), (place / "shared" / str(damaged)).read_bytes()
    at = data.draw(st.integers(0, len(was) - 1))
    flipped = was[:at] + bytes([was[at] ^ data.draw(st.integers(1, 255))]) + was[at + 1 :]
    path.write_bytes(data.draw(st.sampled_from([flipped, was[:at]])))
    found = restore(store, place / "new")
    expected = 3 if damaged.number == 0 else 3 + damaged.number - 1
    lost = 0 if damaged.number == 0 else 5 - damaged.number
    assert found == Restored(events=expected, segments_lost=lost)
    whole = (recorded / "run/ledger.jsonl").read_bytes().splitlines(keepends=True)
    assert (place / "new/ledger.jsonl").read_bytes() == b"".join(whole[:expected])
    shutil.rmtree(place)


def test_where_no_beginning_is_whole_the_objects_are_named(recorded, tmp_path):
    shutil.copytree(recorded / "shared", tmp_path / "shared")
    store = FolderStore(tmp_path / "shared")
    first, second = (str(name) for name in segment_names(store.names("driver/")) if name.number == 0)
    store.put(first, b"rubbish")
    store.remove([second])
    with pytest.raises(RunFolderError, match=f"{second} is missing; {first} is damaged.*put these objects back"):
        restore(store, tmp_path / "new")


def test_a_segment_in_anothers_place_or_with_paths_that_lead_out_is_damage(store, tmp_path):
    name = SegmentName(Chain(1, 0), 0)
    sealed = Segment(name=name, parts=(Part(path="../evil", offset=0, data=b"x"),)).encode()
    with pytest.raises(DamagedError, match="another segment"):
        decode(sealed, name=SegmentName(Chain(1, 0), 1))
    store.put(str(name), sealed)
    with pytest.raises(RunFolderError, match="no part of a sweep's record"):
        restore(store, tmp_path / "new")
    assert not (tmp_path / "evil").exists()


def test_a_storage_that_was_not_mounted_for_a_while_has_the_whole_record_after_it(folder, tmp_path, caplog):
    ledger = folder / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:2]))
    place, away = tmp_path / "shared", tmp_path / "away"
    store = FolderStore(place)
    with Recorder(store, folder, QUICK):
        place.rename(away)
        place.mkdir()  # a mount point without its disk
        with ledger.open("ab") as file:
            file.write(lines[2])
        until(lambda: "is it mounted?" in caplog.text)
        assert not segment_names(store.names("driver/"))
        place.rename(tmp_path / "point")
        away.rename(place)
        with ledger.open("ab") as file:
            file.writelines(lines[3:])
        until(lambda: "answers again" in caplog.text)
    assert restore(store, tmp_path / "new") == Restored(events=len(lines), segments_lost=0)
    assert record_of(tmp_path / "new") == record_of(folder)
