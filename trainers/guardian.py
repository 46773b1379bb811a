"""Runs a command and ends its whole process group when the process that wanted it is gone.

A program of its own, standard library only, started by trainers.process as the leader of a new process
group: `guardian.py PARENT_PID WORD...`. Exits with the command's code, or 128 + signal. A second process watches
over this one: Ray kills the children of a worker that it ends, and their children go on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

_LOOK_EVERY_S = 0.5


def main(parent: int, command: list[str]) -> int:
    """Wait for the command, and look whether the parent is still the same."""
    # A handler, not SIG_IGN, which the command would inherit: SIGTERM goes to the group and is meant for it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    _watch_over(os.getpid())
    child = subprocess.Popen(command)  # noqa: S603 - the user's own command, no shell
    while True:
        try:
            code = child.wait(_LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            if os.getppid() != parent:
                os.killpg(0, signal.SIGKILL)
        else:
            return code if code >= 0 else 128 - code


def _watch_over(guardian: int) -> None:
    """Leave a process of the group behind that ends the group when the guardian is gone."""
    if os.fork() == 0:
        while os.getppid() == guardian:
            time.sleep(_LOOK_EVERY_S)
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
