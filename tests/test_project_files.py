"""What the project says about itself: pinned versions, the workflow, the scripts, the ready commands."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(name): pin
    for name, pin in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
}
EXTRAS = PROJECT["optional-dependencies"]
INSTALLED = [Requirement(text) for text in (*PROJECT["dependencies"], *EXTRAS["dev"])]
WANTED = [*INSTALLED, *(Requirement(text) for name in EXTRAS.keys() - {"dev", "hub"} for text in EXTRAS[name])]


def test_every_line_of_the_constraints_is_a_pin_without_a_local_build() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == len(PINS)
    assert not any("+" in line or "@" in line for line in lines)


@pytest.mark.parametrize("requirement", WANTED, ids=lambda requirement: requirement.name)
def test_a_lower_bound_is_the_version_that_is_tested(requirement: Requirement) -> None:
    (bound,) = requirement.specifier
    assert bound.operator == ">="
    pin = PINS[canonicalize_name(requirement.name)]
    assert pin.startswith(bound.version)  # stubs pin one more number


def test_the_constraints_are_what_runs_here() -> None:
    """On any machine that was set up by make; a nightly PyTorch, say, would have been asked for by hand."""
    names = [canonicalize_name(requirement.name) for requirement in INSTALLED]
    running = {name: version(name).split("+")[0] for name in names}
    assert running == {name: PINS[name] for name in names}


def test_the_workflow_fits_its_schema() -> None:
    command = [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", ".github/workflows/ci.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_scripts_pass_shellcheck() -> None:
    done = subprocess.run([TOOLS / "shellcheck", ".ci/run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("target", ["install", "demo", "test", "check", "benchmark"])
def test_make_knows_its_targets(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_pytorch_is_taken_before_everything_else() -> None:
    command = ["make", "--dry-run", "--always-make", "install", "TORCH_INDEX=https://example.org/rocm"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    torch, rest = [line for line in done.stdout.splitlines() if "pip install" in line]
    assert torch.endswith("--no-deps --index-url https://example.org/rocm torch")
    assert "--index-url" not in rest
