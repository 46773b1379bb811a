"""One subprocess in a process group of its own, which never outlives this process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from search_spaces.errors import InputError
from trainers import guardian
from trainers.masking import masking
from trainers.output import Output

OUTPUT_FILE, ERRORS_FILE = "stdout.txt", "stderr.txt"
# Whoever has the cluster's token may run anything on all of its nodes. A program that starts a Ray of its own gets
# a token of its own.
_KEPT_BACK = frozenset({"RAY_AUTH_TOKEN", "RAY_AUTH_MODE"})
_LAST_LINES, _LAST_BYTES = 20, 20_000


def find_program(word: str, folder: Path) -> str:
    """The absolute path of a program. Raises InputError where it is not there or cannot be run."""
    found = shutil.which(word) or shutil.which(str(folder / word))
    if found is None:
        raise InputError(
            f"trainer 'command': there is no program {word!r} on the PATH or in {folder}; give its full path"
        )
    return str(Path(found).absolute())


def last_lines(path: Path) -> str:
    """The end of what a process wrote, for a message."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LAST_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-_LAST_LINES:])


class Process:
    """Runs a command in a folder; leaving the block kills what is left of its group.

    It gets this process' environment, but for Ray's token. Its output goes to stdout.txt and stderr.txt in the
    folder, without the secrets of that environment. If this process dies, the group is killed within a second.
    """

    def __init__(self, command: Sequence[str], *, folder: Path, env: Mapping[str, str], grace_s: float) -> None:
        self._grace_s = grace_s
        guarded = [sys.executable, "-I", "-S", guardian.__file__, str(os.getpid()), *command]
        copies = [(folder / name).open("wb", buffering=0) for name in (OUTPUT_FILE, ERRORS_FILE)]
        inherited = {name: value for name, value in os.environ.items() if name not in _KEPT_BACK}
        self._process = subprocess.Popen(  # noqa: S603 - the user's own command, no shell
            guarded,
            cwd=folder,
            env={**inherited, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        mask, pipes = masking({**os.environ, **env}), (self._process.stdout, self._process.stderr)
        self._outputs = [Output(pipe, copy, mask) for pipe, copy in zip(pipes, copies, strict=True) if pipe]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signal(signal.SIGKILL)
        self._process.wait()
        for output in self._outputs:
            output.finish()

    def wait(self, timeout_s: float) -> int | None:
        """The exit code (128 + signal of a killed command), or None if it still runs after so long."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """Ask the whole group to end, and wait until it has, or the grace is over."""
        self._signal(signal.SIGTERM)
        self.wait(self._grace_s)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:  # the whole group has ended
            return
