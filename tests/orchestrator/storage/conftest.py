"""The three kinds of storage: a folder, an S3 server, and fsspec's own memory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import s3_server

from orchestrator.storage.store import FolderStore, Store, open_store

BUCKET = "sweeps"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a client of a real server."""
    with s3_server(tmp_path_factory.mktemp("s3") / "log", BUCKET) as environment:
        yield environment


@pytest.fixture
def s3_address(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix of this test's own."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(params=["folder", "memory", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each kind in turn, empty."""
    if request.param == "folder":
        return open_store(str(tmp_path / "shared"))
    if request.param == "memory":
        return open_store(f"memory://{uuid.uuid4().hex}")
    return open_store(request.getfixturevalue("s3_address"))


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """A folder."""
    return FolderStore(tmp_path / "shared")
