"""The installed command, as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

SCALESWEEP = str(Path(sys.executable).with_name("scalesweep"))
# One thread, whatever the machine: the suites of several areas run side by side.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
PATIENCE_S = 120.0


def scalesweep(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end."""
    command = [SCALESWEEP, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def write_sweep(folder: Path, content: dict[str, Any], name: str = "sweep.yaml") -> Path:
    """A sweep file in that folder."""
    path = folder / name
    path.write_text(yaml.safe_dump(content))
    return path


def listing(folder: Path) -> set[str]:
    """Everything in a folder, by its path inside."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
