"""The README's examples, run as they stand there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
SCALESWEEP = Path(sys.executable).with_name("scalesweep")


def examples() -> dict[str, str]:
    """The fenced blocks that a comment names, by that name."""
    blocks = re.findall(r"<!-- example: (\S+) -->\n```\w*\n(.*?)```", README.read_text(), flags=re.DOTALL)
    return dict(blocks)


@pytest.mark.parametrize("sweep", ["command.yaml", "python.yaml"])
def test_a_users_own_trainer_runs_to_laws_files(sweep: str, tmp_path: Path) -> None:
    for name, text in examples().items():
        (tmp_path / name).write_text(text)
    env = {"PATH": f"{SCALESWEEP.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [SCALESWEEP, "run", sweep, "--set", "cluster.address=in-process", "--dir", "runs/example"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    status = subprocess.run(
        [SCALESWEEP, "status", "runs/example", "--json"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(status.stdout)["counts"] == {"completed": 4}
    assert (tmp_path / "runs/example/laws.json").is_file()
    assert (tmp_path / "runs/example/report.html").is_file()
