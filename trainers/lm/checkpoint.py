"""Checkpoints of one trial: numbered files that are never changed, and a pointer.

A file is a line with the sha256 of all that follows, a line of JSON, and safetensors. The pointer names
the newest file and the attempt that owns the trial: a writer that finds a higher attempt there stops.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from trainers.api import Cause, TrialFailed

_KEPT = 2  # the newest, and one to fall back on
_POINTER = "checkpoint.json"
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything that a trial needs to go on: tensors by name, and plain JSON."""

    tensors: Mapping[str, torch.Tensor]
    state: Mapping[str, Any]


class CheckpointFolder:
    """The checkpoints in a trial's workspace, for one attempt.

    Raises TrialFailed: the disk is full, or a higher attempt has taken the trial over.
    """

    def __init__(self, workspace: Path, attempt: int) -> None:
        self._folder = workspace
        self._attempt = attempt
        workspace.mkdir(parents=True, exist_ok=True)
        files = self._files()
        self._point(files[-1].name if files else "")

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, if there is one."""
        for path in reversed(self._files()):
            found = _read(path)
            if found is not None:
                return found
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a new file, point to it, and drop those that are no longer needed."""
        files = self._files()
        number = 1 + (_number(files[-1]) if files else 0)
        path = self._folder / f"checkpoint-{number:06d}-{self._attempt}.bin"
        self._fence()
        _write_atomically(path, _pack(checkpoint))
        self._point(path.name)
        for old in [*files, path][:-_KEPT]:
            old.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("checkpoint-*.bin"), key=lambda path: (_number(path), path.name))

    def _fence(self) -> None:
        try:
            owner = int(json.loads((self._folder / _POINTER).read_text())["attempt"])
        except (OSError, ValueError, KeyError, TypeError):
            return  # no pointer yet, or a damaged one: nobody claims the trial
        if owner > self._attempt:
            raise TrialFailed(Cause.WORKER_LOST, f"attempt {owner} took the trial over from attempt {self._attempt}")

    def _point(self, name: str) -> None:
        self._fence()
        content = json.dumps({"attempt": self._attempt, "newest": name})
        _write_atomically(self._folder / _POINTER, content.encode())


def _number(path: Path) -> int:
    return int(path.stem.split("-")[1])


def _pack(checkpoint: Checkpoint) -> bytes:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    body: bytes = json.dumps(dict(checkpoint.state)).encode() + b"\n" + safetensors.torch.save(tensors)
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _read(path: Path) -> Checkpoint | None:
    """The checkpoint, or None where the file is damaged or gone."""
    try:
        checksum, _, body = path.read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            return None
        state, _, tensors = body.partition(b"\n")
        return Checkpoint(tensors=safetensors.torch.load(tensors), state=json.loads(state))
    except (OSError, ValueError, SafetensorError):
        return None


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in _DISK_FULL:
            raise TrialFailed(Cause.DISK_FULL, f"no room for {len(content):,} bytes at {path}") from error
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
