"""Copies what a process prints to a file, line by line and without secrets."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import IO

# A line that is longer is written in pieces of so many characters, and so many are held back meanwhile: a secret may
# go on in the next piece. Guesses; a private key has 3,300.
_PIECE, _HELD_BACK = 16_384, 4_096
# What a process that has ended printed is copied in milliseconds; one that left the group may keep the pipe open.
_LAST_S = 2.0


class Output:
    """Copies a pipe to an unbuffered file until its end, in a thread: each line when it is there.

    What a progress bar shows, each ended by a carriage return, is there with the next one. What is not UTF-8 is copied
    as it is. On a full disk the copy has gaps, and the process is not held up.
    """

    def __init__(self, pipe: IO[bytes], copy: IO[bytes], mask: Callable[[str], str]) -> None:
        self._source = io.TextIOWrapper(pipe, encoding="utf-8", errors="surrogateescape", newline="")
        self._copy = copy
        self._mask = mask
        self._thread = threading.Thread(target=self._run, name="scalesweep-output", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Return when all is copied, or after seconds where somebody keeps the pipe open."""
        self._thread.join(_LAST_S)

    def _run(self) -> None:
        with self._source, self._copy:
            held = ""
            while piece := self._source.readline(_PIECE):
                text = self._mask(held + piece)
                ready = len(text) if piece.endswith(("\n", "\r")) else max(0, len(text) - _HELD_BACK)
                self._write(text[:ready])
                held = text[ready:]
            self._write(held)

    def _write(self, text: str) -> None:
        with suppress(OSError):
            self._copy.write(text.encode(errors="surrogateescape"))
