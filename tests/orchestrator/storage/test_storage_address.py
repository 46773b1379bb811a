"""Where a storage is, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import tiny

from orchestrator.storage.address import storage_address
from orchestrator.storage.store import open_store
from search_spaces.errors import InputError


def test_a_path_is_made_absolute_for_the_other_nodes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage_address("shared/sweep") == str(tmp_path / "shared/sweep")
    assert storage_address(f"file://{tmp_path}/x/") == str(tmp_path / "x")
    assert storage_address("s3://bucket/prefix/") == "s3://bucket/prefix"
    assert tiny.sweep(storage="here").resolved()["storage"] == str(tmp_path / "here")
    assert tiny.sweep().resolved()["storage"] is None


@pytest.mark.parametrize(
    "given",
    ["s3://AKIA:hushhush@bucket/x", "sftp://me@host/x", "abfs://c/x?sig=hushhush", "s3://b/x?token=hushhush"],
)
def test_secrets_are_refused_and_not_repeated(given, caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(InputError, match="by the environment") as refused:
        storage_address(given)
    assert "hushhush" not in str(refused.value) + caplog.text
    with pytest.raises(InputError) as refused:
        tiny.sweep(storage=given)
    assert "hushhush" not in str(refused.value)


def test_nothing_is_no_storage():
    with pytest.raises(InputError, match=r"storage.*empty.*s3://bucket/prefix"):
        tiny.sweep(storage=" ")


def test_a_protocol_without_its_package_names_it():
    with pytest.raises(InputError, match=r"'gcs://bucket/x' needs a package.*gcsfs"):
        open_store("gcs://bucket/x")
    with pytest.raises(InputError, match=r"'nope://bucket/x'.*s3://bucket/prefix"):
        open_store("nope://bucket/x")


def test_a_relative_folder_stays_one(tmp_path):
    assert open_store(str(tmp_path)).address == str(Path(tmp_path))
