"""Snapshots of a trial's folder: what is pushed, pulled, kept, damaged and fenced."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.storage.fence import Fence, FencedError, ObjectName, claim, objects_of
from orchestrator.storage.manifest import FileEntry, Manifest, decode, stays_inside
from orchestrator.storage.pull import pull
from orchestrator.storage.push import Pusher, UnsettledError
from orchestrator.storage.sealed import DamagedError, seal
from orchestrator.storage.store import FolderStore
from search_spaces.errors import StorageError

KEY = "0123456789abcdef"


def begin(store, folder: Path, fence: Fence) -> Pusher:
    claim(store, KEY, fence)
    return Pusher(store, KEY, fence, folder, pull(store, KEY, fence, folder))


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def train(folder: Path, step: int) -> None:
    """As trainers.lm does: a new immutable file, a pointer, points that only grow; old files go."""
    (folder / "deep").mkdir(exist_ok=True)
    (folder / f"deep/checkpoint-{step}.bin").write_bytes(f"{step}".encode() * 1000)
    (folder / "checkpoint.json").write_text(f'{{"newest": {step}}}')
    (folder / f"deep/checkpoint-{step - 2}.bin").unlink(missing_ok=True)
    with (folder / "points.jsonl").open("a") as file:
        file.write(f'{{"point": {step}}}\n')


def test_another_node_goes_on_from_what_was_pushed(any_store, tmp_path):
    first = begin(any_store, tmp_path / "a", Fence(1, 1))
    train(tmp_path / "a", 1)
    assert first.push()
    assert not first.push()
    train(tmp_path / "a", 2)
    (tmp_path / "a" / "half-written.tmp").write_bytes(b"...")
    assert first.push()
    expected = content(tmp_path / "a")
    expected.pop("half-written.tmp")
    second = begin(any_store, tmp_path / "b", Fence(1, 2))
    assert content(tmp_path / "b") == expected
    assert not second.push()
    train(tmp_path / "b", 3)
    assert second.push()
    begin(any_store, tmp_path / "c", Fence(1, 3))
    assert content(tmp_path / "c") == content(tmp_path / "b")


def test_files_that_did_not_change_are_not_pushed_again(store, tmp_path):
    pusher = begin(store, tmp_path / "a", Fence(1, 1))
    train(tmp_path / "a", 1)
    pusher.push()
    objects = tmp_path / f"shared/trials/{KEY}"
    before = {str(name): (objects / str(name)).stat().st_mtime_ns for name in objects_of(store, KEY)}
    train(tmp_path / "a", 2)
    pusher.push()
    (kept,) = [entry for entry in newest(store).files if entry.path == "deep/checkpoint-1.bin"]
    assert kept.object in before
    assert (objects / kept.object).stat().st_mtime_ns == before[kept.object]


def newest(store) -> Manifest:
    name = max(name for name in objects_of(store, KEY) if name.name.startswith("manifest-"))
    return decode(store.get(f"trials/{KEY}/{name}"), trial=KEY, name=name)


def test_two_snapshots_stay_and_at_the_end_only_points(store, tmp_path):
    pusher = begin(store, tmp_path / "a", Fence(1, 1))
    for step in range(1, 9):
        train(tmp_path / "a", step)
        pusher.push()
    names = [name.name for name in objects_of(store, KEY)]
    assert [name for name in names if name.startswith("manifest-")] == ["manifest-00000007", "manifest-00000008"]
    # Of two snapshots: checkpoints 6, 7 and 8, and each its own points and pointer.
    assert sum(name.startswith("object-") for name in names) == 3 + 2 + 2
    last = begin(store, tmp_path / "b", Fence(2, 1))
    with (tmp_path / "b/points.jsonl").open("a") as file:
        file.write("the end\n")
    last.push("points.jsonl".__eq__, kept=1)
    left = [str(name) for name in objects_of(store, KEY)]
    assert left == [f"{Fence(2, 1)}/claim", f"{Fence(2, 1)}/manifest-00000001", f"{Fence(2, 1)}/object-00000001"]


def test_an_old_attempt_that_lives_on_harms_nothing(store, tmp_path):
    old = begin(store, tmp_path / "old", Fence(1, 3))
    train(tmp_path / "old", 1)
    old.push()
    new = begin(store, tmp_path / "new", Fence(2, 1))  # a ledger that lost its end counts from below again
    assert new.start == 4
    train(tmp_path / "new", 2)
    new.push()
    expected = content(tmp_path / "new")
    train(tmp_path / "old", 9)
    with pytest.raises(FencedError, match=f"{Fence(2, 1)} has taken trial {KEY} over from {Fence(1, 3)}"):
        old.push()
    with pytest.raises(FencedError):
        claim(store, KEY, Fence(1, 4))
    begin(store, tmp_path / "next", Fence(2, 2))
    assert content(tmp_path / "next") == expected


def test_nothing_is_written_where_the_attempts_claim_is_gone(any_store, tmp_path):
    """As in the empty folder where a shared one is not mounted."""
    pusher = begin(any_store, tmp_path / "a", Fence(1, 1))
    train(tmp_path / "a", 1)
    any_store.remove(any_store.names(f"trials/{KEY}/"))
    with pytest.raises(StorageError, match=f"has lost attempt {Fence(1, 1)} of trial {KEY}"):
        pusher.push()
    assert any_store.names("") == []
    claim(any_store, KEY, Fence(1, 1))  # it is back
    assert pusher.push()


def test_what_went_elsewhere_is_pushed_again(tmp_path):
    """The shared folder is unmounted while a snapshot is written, and mounted again later."""
    shared, away, folder = tmp_path / "shared", tmp_path / "away", tmp_path / "a"

    class Unmounted(FolderStore):
        def upload(self, name, source, size):
            if not away.exists():
                shared.rename(away)
            return super().upload(name, source, size)

    store = FolderStore(shared)
    begin(store, folder, Fence(1, 1))
    pusher = Pusher(Unmounted(shared), KEY, Fence(1, 1), folder, None)
    train(folder, 1)
    with pytest.raises(StorageError, match="has lost attempt"):
        pusher.push()
    shutil.rmtree(shared)
    shutil.copytree(away, shared)
    assert pusher.push()
    begin(store, tmp_path / "b", Fence(1, 2))
    assert content(tmp_path / "b") == content(folder)


def test_a_file_that_changes_while_it_is_copied_waits_and_one_that_grows_does_not(store, tmp_path):
    class Meddling(FolderStore):
        def upload(self, name, source, size):
            digest = super().upload(name, source, size)
            after.pop(Path(source.name).name, lambda: None)()
            return digest

    folder = tmp_path / "a"
    claim(store, KEY, Fence(1, 1))
    pusher = Pusher(Meddling(tmp_path / "shared"), KEY, Fence(1, 1), folder, pull(store, KEY, Fence(1, 1), folder))
    log, weights = folder / "log", folder / "weights"
    log.write_bytes(b"one\n")
    weights.write_bytes(b"old weights")
    after = {
        "log": lambda: log.write_bytes(b"one\ntwo\n"),
        "weights": lambda: weights.write_bytes(b"new weights, longer"),
    }
    with pytest.raises(UnsettledError, match="weights"):
        pusher.push()
    assert pull(store, KEY, Fence(9, 9), tmp_path / "none") is None
    after["log"] = lambda: log.write_bytes(b"one\ntwo\nthree\n")
    pusher.push()
    assert pull(store, KEY, Fence(9, 9), tmp_path / "b") is not None
    assert content(tmp_path / "b") == {"log": b"one\ntwo\n", "weights": b"new weights, longer"}
    after["log"] = weights.unlink
    log.write_bytes(b"another log")
    with pytest.raises(UnsettledError, match="weights"):
        pusher.push()


def test_a_checkpoint_never_comes_without_its_points(store, tmp_path):
    class Training(FolderStore):
        def upload(self, name, source, size):
            with (folder / "points.jsonl").open("a") as file:
                file.write("a point\n")
            return super().upload(name, source, size)

    folder = tmp_path / "a"
    claim(store, KEY, Fence(1, 1))
    pusher = Pusher(Training(tmp_path / "shared"), KEY, Fence(1, 1), folder, pull(store, KEY, Fence(1, 1), folder))
    (folder / "points.jsonl").write_text("the first\n")
    (folder / "weights").write_bytes(b"w")
    pusher.push()
    pull(store, KEY, Fence(9, 9), tmp_path / "b")
    assert content(tmp_path / "b")["points.jsonl"].startswith(b"the first\na point\n")


@pytest.fixture(scope="module")
def pushed(tmp_path_factory) -> Path:
    """A storage with two snapshots of a trial."""
    place = tmp_path_factory.mktemp("pushed")
    pusher = begin(FolderStore(place / "shared"), place / "a", Fence(1, 1))
    for step in (1, 2):
        train(place / "a", step)
        pusher.push()
        shutil.copytree(place / "a", place / f"after-{step}")
    return place


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_cut_or_flipped_byte_is_detected_and_the_previous_snapshot_used(pushed, tmp_path_factory, data):
    place = tmp_path_factory.mktemp("damaged")
    shutil.copytree(pushed / "shared", place / "shared")
    store = FolderStore(place / "shared")
    manifest = newest(store)
    older = {entry.object for entry in decode_older(store).files}
    damageable = sorted({str(manifest.name)} | {entry.object for entry in manifest.files} - older)
    damage(place / f"shared/trials/{KEY}" / data.draw(st.sampled_from(damageable)), data)
    assert pull(store, KEY, Fence(9, 9), place / "pulled") is not None
    assert content(place / "pulled") == content(pushed / "after-1")
    shutil.rmtree(place)


def decode_older(store) -> Manifest:
    name = min(name for name in objects_of(store, KEY) if name.name.startswith("manifest-"))
    return decode(store.get(f"trials/{KEY}/{name}"), trial=KEY, name=name)


def damage(path: Path, data: st.DataObject) -> None:
    """Cut the file, flip a byte, or take it away."""
    was = path.read_bytes()
    at = data.draw(st.integers(0, len(was) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip", "gone"]))
    if kind == "gone":
        path.unlink()
    elif kind == "cut":
        path.write_bytes(was[:at])
    else:
        path.write_bytes(was[:at] + bytes([was[at] ^ data.draw(st.integers(1, 255))]) + was[at + 1 :])


def test_where_every_snapshot_is_damaged_the_trial_begins_anew(store, tmp_path, caplog):
    pusher = begin(store, tmp_path / "a", Fence(1, 1))
    train(tmp_path / "a", 1)
    pusher.push()
    for name in objects_of(store, KEY):
        store.put(f"trials/{KEY}/{name}", b"rubbish")
    again = begin(store, tmp_path / "b", Fence(1, 2))
    assert content(tmp_path / "b") == {}
    assert "manifest-00000001 is damaged (its checksum does not match)" in caplog.text
    train(tmp_path / "b", 1)
    assert again.push()


def test_a_manifest_of_another_trial_or_with_paths_that_lead_out_is_refused():
    name = ObjectName(Fence(1, 1), "manifest-00000001")
    entry = FileEntry(path="../../.ssh/authorized_keys", object="x", bytes=1, sha256="")
    manifest = Manifest(trial=KEY, generation=1, attempt=1, sequence=1, start=1, files=(entry,))
    with pytest.raises(DamagedError, match="would leave the folder"):
        decode(manifest.encode(), trial=KEY, name=name)
    with pytest.raises(DamagedError, match="it is trial"):
        decode(manifest.encode(), trial="another", name=name)
    with pytest.raises(DamagedError, match="no manifest"):
        decode(seal(b"[]"), trial=KEY, name=name)
    assert [stays_inside(path) for path in ("a/b", "a..b", "", "/a", "a/../../b")] == [True, True, False, False, False]
