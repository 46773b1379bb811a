"""The files of deploy/ as their own tools see them, and the commands of its README."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from orchestrator.config import load

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
README = (DEPLOY / "README.md").read_text()
TOOLS = Path(sys.executable).parent


def complaints(*command: str | Path) -> str:
    """What a validator prints when it refuses; empty when it accepts."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def compose_complaints(path: Path) -> str:
    return complaints(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)


def test_the_dockerfile_passes_hadolint() -> None:
    assert complaints(TOOLS / "hadolint", DEPLOY / "Dockerfile") == ""


def test_hadolint_would_complain(tmp_path: Path) -> None:
    broken = tmp_path / "Dockerfile"
    broken.write_text("FROM python\nRUN cd /tmp && pip install torch\n")
    assert "DL3006" in complaints(TOOLS / "hadolint", broken)


def test_the_compose_file_fits_its_schema() -> None:
    assert compose_complaints(DEPLOY / "compose.yaml") == ""


def test_the_schema_would_complain(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    broken.write_text("services: {worker: {imagine: scalesweep}}")
    assert "imagine" in compose_complaints(broken)


def test_compose_publishes_on_loopback_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:5000:5000"]


@pytest.mark.parametrize("secret", ["POSTGRES_PASSWORD", "RAY_AUTH_TOKEN"])
def test_compose_starts_nothing_without_its_secrets(secret: str) -> None:
    used = re.findall(rf"\$\{{{secret}([^}}]*)\}}", (DEPLOY / "compose.yaml").read_text())
    assert used
    assert all(default.startswith(":?") for default in used)


def test_compose_says_how_ray_authenticates() -> None:
    for name in ("head", "worker"):
        assert COMPOSE["services"][name]["environment"]["RAY_AUTH_MODE"] == "token"


def test_compose_shares_the_run_folders_with_every_node() -> None:
    for name in ("head", "worker"):
        assert "sweeps:/sweeps" in COMPOSE["services"][name]["volumes"]


def test_everything_that_the_image_copies_is_let_in() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split() if line.startswith("!")}
    names = {name for line in copied for name in line.split()}
    assert names == allowed
    missing = sorted(name for name in names if not (DEPLOY.parent / name).exists())
    assert missing == []


def test_the_readme_names_every_file() -> None:
    named = set(re.findall(r"^\| `([^`]+)`", README, flags=re.MULTILINE))
    assert named == {path.name for path in DEPLOY.iterdir()} - {"README.md", ".env"}


def test_the_gpu_file_of_the_readme_fits_the_schema(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    gpus = tmp_path / "gpus.yaml"
    gpus.write_text(block)
    assert compose_complaints(gpus) == ""
    assert set(yaml.safe_load(block)["services"]) <= set(COMPOSE["services"])


def test_the_overrides_of_the_readme_are_keys_of_a_sweep() -> None:
    commands = re.findall(r"scalesweep run (\S+)((?:[^\n]*\\\n)*[^\n]*)", README)
    assert [name for name, _ in commands] == ["laptop", "porian"]
    for name, rest in commands:
        overrides = re.findall(r"--set (\S+)", rest)
        assert len(overrides) >= 2
        assert load(name, overrides).cluster.address == "auto"
