"""Immutable objects by name, in a folder or behind fsspec: a reader sees a whole object or none."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from fsspec.core import url_to_fs
from fsspec.registry import known_implementations

from orchestrator.storage.address import is_url
from search_spaces.errors import InputError, ScalesweepError, StorageError

_CHUNK = 2**22  # bytes read at once
_PART = ".part-"  # names of files that are being written begin so


class CutShortError(ScalesweepError):
    """A file has got shorter while it was copied."""


class Store(Protocol):
    """Objects under names with slashes. Safe for use from several threads and hosts.

    Everything raises StorageError where the storage cannot be read or written now.
    """

    address: str

    def put(self, name: str, data: bytes) -> None:
        """Write an object."""

    def upload(self, name: str, source: BinaryIO, size: int) -> str:
        """Write an object from the next `size` bytes of a file; returns their sha256, in hex.

        Raises CutShortError where there are fewer.
        """

    def get(self, name: str) -> bytes:
        """An object. Raises FileNotFoundError where there is none."""

    def download(self, name: str, target: Path) -> str:
        """Write an object to a new file; returns its sha256, in hex. Raises FileNotFoundError where there is none."""

    def names(self, prefix: str) -> list[str]:
        """The objects below a prefix that ends in a slash, sorted."""

    def written_at(self, name: str) -> float:
        """When an object was written, by the storage's clock, in seconds since 1970. Raises FileNotFoundError."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; no error for those that are gone."""


def open_store(address: str) -> Store:
    """The store at an address of storage.address. Raises InputError where its protocol is unknown or not installed."""
    return RemoteStore(address) if is_url(address) else FolderStore(Path(address))


class FolderStore:
    """A folder that all nodes share: objects are written under another name, fsynced and renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.address = str(root)

    def put(self, name: str, data: bytes) -> None:
        """Write an object."""
        with self._new(name) as file:
            file.write(data)

    def upload(self, name: str, source: BinaryIO, size: int) -> str:
        """Write an object from a file."""
        with self._new(name) as file:
            return _copy(source, file, size)

    def get(self, name: str) -> bytes:
        """An object."""
        with _faults(self.address, name):
            return (self._root / name).read_bytes()

    def download(self, name: str, target: Path) -> str:
        """Write an object to a new file."""
        with _faults(self.address, name), (self._root / name).open("rb") as source, target.open("xb") as file:
            return _copy(source, file, None)

    def names(self, prefix: str) -> list[str]:
        """The objects below a prefix."""
        with _faults(self.address, prefix):
            found = (
                (Path(folder) / file).relative_to(self._root).as_posix()
                for folder, _, files in os.walk(self._root / prefix, onerror=_unless_gone)
                for file in files
                if not file.startswith(_PART)
            )
            return sorted(found)

    def written_at(self, name: str) -> float:
        """When an object was written."""
        with _faults(self.address, name):
            return (self._root / name).stat().st_mtime

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, and folders that get empty."""
        for name in names:
            path = self._root / name
            with _faults(self.address, name):
                path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty, or gone
                path.parent.rmdir()

    @contextmanager
    def _new(self, name: str) -> Iterator[BinaryIO]:
        path = self._root / name
        with _faults(self.address, name, absent_is_fault=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=path.parent, prefix=_PART)
            try:
                with os.fdopen(handle, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                Path(part).replace(path)
            except BaseException:
                Path(part).unlink(missing_ok=True)
                raise


class RemoteStore:
    """Any address that fsspec knows. Object stores show an object when its one put has ended."""

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            self._files: Any
            self._files, self._root = url_to_fs(address)
        except ImportError as error:
            raise InputError(f"storage {address!r} needs a package that is not installed: {_hint(address)}") from error
        except ValueError as error:
            raise InputError(
                f"storage {address!r} is no address that can be used ({error}); give a folder that all nodes share, "
                "or a URL such as s3://bucket/prefix"
            ) from error

    def put(self, name: str, data: bytes) -> None:
        """Write an object."""
        with _faults(self.address, name, absent_is_fault=True):
            self._make_parents(name)
            self._files.pipe_file(self._path(name), data)

    def upload(self, name: str, source: BinaryIO, size: int) -> str:
        """Write an object from a file."""
        with _faults(self.address, name, absent_is_fault=True):
            self._make_parents(name)
            with self._files.open(self._path(name), "wb") as file:
                return _copy(source, file, size)

    def get(self, name: str) -> bytes:
        """An object."""
        with _faults(self.address, name):
            found: bytes = self._files.cat_file(self._path(name))
            return found

    def download(self, name: str, target: Path) -> str:
        """Write an object to a new file."""
        with _faults(self.address, name), self._files.open(self._path(name), "rb") as source, target.open("xb") as file:
            return _copy(source, file, None)

    def names(self, prefix: str) -> list[str]:
        """The objects below a prefix."""
        with _faults(self.address, prefix):
            self._files.invalidate_cache()
            skip = len(self._root.rstrip("/")) + 1
            try:
                return sorted(path[skip:] for path in self._files.find(self._path(prefix).rstrip("/")))
            except FileNotFoundError:
                return []

    def written_at(self, name: str) -> float:
        """When an object was written."""
        with _faults(self.address, name):
            time: datetime = self._files.modified(self._path(name))
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects."""
        for name in names:
            with suppress(FileNotFoundError), _faults(self.address, name):
                self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _make_parents(self, name: str) -> None:
        """Protocols with real folders (sftp, hdfs) need them; for object stores a folder is nothing."""
        if not _is_object_store(self._files):
            self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)


def _is_object_store(files: Any) -> bool:  # noqa: ANN401 - fsspec has no types
    protocols = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
    return bool(protocols & {"s3", "s3a", "gs", "gcs", "abfs", "az", "oss", "oci"})


def _hint(address: str) -> str:
    protocol = address.partition("://")[0]
    if protocol in {"s3", "s3a"}:
        return "`pip install s3fs`, or `pip install '.[s3]'` in scalesweep's checkout, on every node"
    return str(known_implementations.get(protocol, {}).get("err", f"look for an fsspec package of {protocol}"))


def _copy(source: BinaryIO, target: BinaryIO, size: int | None) -> str:
    """Copy the next `size` bytes (None: all); returns their sha256. Raises CutShortError."""
    digest, left = hashlib.sha256(), size
    while left is None or left > 0:
        chunk = source.read(_CHUNK if left is None else min(_CHUNK, left))
        if not chunk:
            break
        digest.update(chunk)
        target.write(chunk)
        left = None if left is None else left - len(chunk)
    if left:
        raise CutShortError(f"a file ended {left} bytes early: it was cut while it was copied")
    return digest.hexdigest()


@contextmanager
def _faults(address: str, name: str, *, absent_is_fault: bool = False) -> Iterator[None]:
    """Turns whatever a backend raises into StorageError, but for the absence of an object."""
    try:
        yield
    except FileNotFoundError as error:
        if absent_is_fault:
            raise _fault(address, name, error) from error
        raise
    except ScalesweepError:
        raise
    except Exception as error:  # every backend has errors of its own
        raise _fault(address, name, error) from error


def _fault(address: str, name: str, error: Exception) -> StorageError:
    text = " ".join(str(error).split()) or type(error).__name__
    return StorageError(f"storage {address}: {name}: {text}")


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
