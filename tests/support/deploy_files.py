"""The files of deploy/, and what their own tools say of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
README = (DEPLOY / "README.md").read_text()
TOOLS = Path(sys.executable).parent
SCHEMAS = DEPLOY.parents[1] / "shared" / "schemas"


def complaints(*command: str | Path, given: str | None = None) -> str:
    """What a validator prints when it refuses; empty when it accepts."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def documents(*names: str) -> list[dict[str, Any]]:
    """All YAML documents of some files."""
    return [document for name in names for document in yaml.safe_load_all((DEPLOY / name).read_text())]


def schema(name: str) -> Path:
    """A schema that does not come with the repository; the test is skipped where it is absent."""
    path = SCHEMAS / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


def inner(value: object) -> Iterator[Mapping[str, Any]]:
    """Every mapping inside a document, itself first."""
    if isinstance(value, Mapping):
        yield value
        for part in value.values():
            yield from inner(part)
    elif isinstance(value, list):
        for part in value:
            yield from inner(part)
