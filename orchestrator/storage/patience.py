"""How long a storage that does not answer is waited for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from search_spaces.errors import StorageError

logger = logging.getLogger(__name__)

T = TypeVar("T")

# The first wait, seconds; each is twice the one before, up to the longest. Guesses.
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 10.0


def persistently(action: Callable[[], T], patience_s: Callable[[], float]) -> T:
    """Do it, and again while StorageError comes and the patience, in seconds since the first try, lasts."""
    began, wait_s = time.monotonic(), _FIRST_WAIT_S
    while True:
        try:
            return action()
        except StorageError as error:
            left_s = patience_s() - (time.monotonic() - began)
            if left_s <= 0:
                raise
            logger.warning("%s; trying again for %.0f s", error, left_s)
            time.sleep(min(wait_s, left_s))
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def in_background(action: Callable[[], T]) -> Future[T]:
    """Begin it in a thread that keeps no process alive: a client may try for minutes before it gives up."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(action())
        except BaseException as error:  # noqa: BLE001 - raised where the answer is asked for
            answer.set_exception(error)

    threading.Thread(target=run, name="scalesweep-storage", daemon=True).start()
    return answer
