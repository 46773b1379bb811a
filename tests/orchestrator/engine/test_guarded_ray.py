"""A cluster that asks for a token says so, soon and in our words."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import guarded_ray
import pytest

from orchestrator.engine.entrance import check_entrance


@pytest.mark.slow
def test_a_wrong_token_and_none_are_one_message_with_a_remedy(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, guarded_ray.__file__, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_an_address_without_a_listener_is_refused_at_once() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        began = time.monotonic()
        with pytest.raises(ConnectionRefusedError):
            check_entrance(f"127.0.0.1:{bound.getsockname()[1]}")
        assert time.monotonic() - began < 5
