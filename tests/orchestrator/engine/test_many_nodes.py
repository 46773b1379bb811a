"""Nodes that join, leave, die and are drained under a pool, on a real Ray cluster of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import many_nodes
import pytest


@pytest.mark.slow
def test_nodes_come_and_go_and_every_attempt_ends_once(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, many_nodes.__file__, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert found.returncode == 0, found.stdout + found.stderr
