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


def test_the_sampler_alone_starts_at_the_laws_optimum(tmp_path: Path) -> None:
    (tmp_path / "guided.py").write_text(examples()["guided.py"])
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "guided.py"]
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "'law optimum', 'refine', 'refine'" in ran.stdout
    assert _number(ran.stdout, "learning_rate") == pytest.approx(1.79 * 1e9**-0.713 * 2e10**0.307, rel=0.2)
    assert _number(ran.stdout, "batch_tokens") == pytest.approx(0.58 * 2e10**0.571, rel=0.3)


def _number(said: str, name: str) -> float:
    """The value of a setting in the printed dictionary of the best ones."""
    found = re.search(rf"'{name}': ([\d.e-]+)", said)
    assert found is not None
    return float(found[1])


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
