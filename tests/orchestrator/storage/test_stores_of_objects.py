"""The Store contract, on a folder, on fsspec's memory and on a real S3 server."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Iterator

import pytest
from s3fs import S3FileSystem

from orchestrator.storage.nonce import Nonce, answer, check_here
from orchestrator.storage.store import CutShortError, FolderStore
from search_spaces.errors import InputError, StorageError

CLOCK_S = 5.0  # S3 gives whole seconds


def test_what_is_put_is_found_and_removed(any_store, tmp_path):
    any_store.put("trials/a/one", b"first")
    any_store.put("trials/a/b/two", b"second")
    any_store.put("trials/ab/three", b"third")
    assert any_store.names("trials/a/") == ["trials/a/b/two", "trials/a/one"]
    assert any_store.names("trials/none/") == []
    assert any_store.get("trials/a/one") == b"first"
    any_store.put("trials/a/one", b"again")
    assert any_store.download("trials/a/one", tmp_path / "one") == hashlib.sha256(b"again").hexdigest()
    assert (tmp_path / "one").read_bytes() == b"again"
    any_store.remove(["trials/a/one", "trials/a/b/two", "trials/never"])
    assert any_store.names("trials/") == ["trials/ab/three"]


def test_an_object_knows_when_it_was_written(any_store):
    any_store.put("driver/one", b"first")
    assert abs(any_store.written_at("driver/one") - time.time()) < CLOCK_S
    with pytest.raises(FileNotFoundError):
        any_store.written_at("driver/none")


def test_what_is_absent_is_no_outage(any_store, tmp_path):
    with pytest.raises(FileNotFoundError):
        any_store.get("none")
    with pytest.raises(FileNotFoundError):
        any_store.download("none", tmp_path / "none")


def test_a_file_is_uploaded_up_to_a_size(any_store):
    digest = any_store.upload("part", io.BytesIO(b"0123456789"), 4)
    assert (any_store.get("part"), digest) == (b"0123", hashlib.sha256(b"0123").hexdigest())
    assert any_store.upload("none", io.BytesIO(b""), 0) == hashlib.sha256(b"").hexdigest()
    with pytest.raises(CutShortError):
        any_store.upload("short", io.BytesIO(b"01"), 4)


def test_a_large_file_goes_in_several_pieces(any_store, tmp_path):
    content = bytes(range(256)) * 2**16
    assert any_store.upload("large", io.BytesIO(content), len(content)) == hashlib.sha256(content).hexdigest()
    assert any_store.download("large", tmp_path / "large") == hashlib.sha256(content).hexdigest()


def test_a_reader_sees_a_whole_object_or_none(store):
    seen: set[bytes] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            for name in store.names("x/"):
                seen.add(store.get(name)[:1] * (len(store.get(name)) == 2**20))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(40):
        store.put("x/object", b"%d" % (turn % 10) * 2**20)
    over.set()
    reader.join(10)
    assert seen
    assert b"" not in seen


def test_a_storage_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").touch()
    store = FolderStore(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match=r"below: x: .*Not a directory"):
        store.put("x", b"")
    with pytest.raises(InputError, match=r"file/below.*must be a folder or URL that this machine and every node"):
        check_here(str(tmp_path / "file" / "below"))


@pytest.fixture
def no_s3_yet() -> Iterator[None]:
    """fsspec keeps the clients that it has made, with the address of their server."""
    S3FileSystem.clear_instance_cache()
    yield
    S3FileSystem.clear_instance_cache()


def test_an_s3_server_that_is_gone_is_one_message(monkeypatch, no_s3_yet):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hushhush")
    with pytest.raises(InputError, match=r"s3://bucket/x.*Could not connect.*every node") as error:
        check_here("s3://bucket/x")
    assert "hushhush" not in str(error.value)


def test_a_bucket_that_is_not_there_is_one_message(s3_address):
    with pytest.raises(InputError, match=r"s3://nobucket/x: .*bucket does not exist"):
        check_here("s3://nobucket/x")


def test_a_nonce_tells_who_shares_the_storage(any_store, tmp_path):
    nonce = Nonce(any_store)
    nonce.ask()
    assert not nonce.is_answered_by("a")
    any_store.put(f"{nonce.name}/b", b"from another question")
    assert not nonce.is_answered_by("b")
    if any_store.address.startswith("memory:"):
        return
    answer(any_store.address, nonce.name, "a")
    assert nonce.is_answered_by("a")
    with pytest.raises(FileNotFoundError):
        answer(str(tmp_path / "another"), nonce.name, "c")
    nonce.forget()
    assert any_store.names("nonces/") == []
    check_here(any_store.address)
    assert any_store.names("") == []
