"""Processes of this machine by /proc: who descends from whom, who still runs, and in which namespace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    children: dict[int, list[int]] = {}
    for each in all_pids():
        fields = _stat(each)
        if fields:
            children.setdefault(int(fields[1]), []).append(each)
    found: set[int] = set()
    todo = [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found.update(below)
        todo += below
    return found


def child_of(pid: int) -> int:
    """The one process that another has started. Raises IndexError where there is none."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def all_pids() -> list[int]:
    """Every process there is."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    fields = _stat(pid)
    return bool(fields) and fields[0] != "Z"


def command_of(pid: int) -> str:
    """A process's command line, empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def namespace_of(pid: int) -> str:
    """The process namespace that it lives in, empty if it has ended."""
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


def _stat(pid: int) -> Sequence[str]:
    """State, parent, ... of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ()
