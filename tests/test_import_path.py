"""A user's own folders in the current directory never take the place of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCALESWEEP = Path(sys.executable).parent / "scalesweep"


@pytest.fixture
def bogus(tmp_path: Path) -> Path:
    """A directory with packages of our names that cannot be imported."""
    for name in ("trainers", "search_spaces", "orchestrator"):
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text("raise RuntimeError('the wrong package')\n")
    return tmp_path


def run(*arguments: str, where: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [SCALESWEEP, *arguments], cwd=where, env=clean, capture_output=True, text=True, check=False, timeout=60
    )


def test_help_comes_from_our_packages(bogus: Path) -> None:
    done = run("--help", where=bogus)
    assert done.returncode == 0, done.stderr
    assert "usage: scalesweep" in done.stdout


def test_a_plan_comes_from_our_packages(bogus: Path) -> None:
    done = run("plan", "laptop", where=bogus)
    assert done.returncode == 0, done.stderr
    assert "the wrong package" not in done.stdout + done.stderr


def test_the_bogus_packages_would_be_noticed(bogus: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import trainers"], cwd=bogus, capture_output=True, text=True, check=False
    )
    assert "the wrong package" in done.stderr
