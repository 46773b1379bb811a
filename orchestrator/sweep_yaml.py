"""A sweep file's text as plain values: from disk or ready-made, with overrides put in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from search_spaces.errors import InputError
from search_spaces.nearest import nearest

READY = resources.files("search_spaces") / "sweeps"


def ready_sweeps() -> tuple[str, ...]:
    """Names of the sweeps that come with scalesweep."""
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in READY.iterdir() if entry.name.endswith(".yaml")))


def read_sweep(sweep: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What a sweep file, or a ready sweep of that name, says, with `key=value` overrides.

    Raises InputError with one message where it cannot be read or an override is none.
    """
    content = _read(sweep)
    for override in overrides:
        _override(content, override)
    return content


def _read(sweep: str) -> dict[str, Any]:
    path = Path(sweep)
    if path.is_file():
        text = _text(path)
    elif sweep in ready_sweeps():
        text = (READY / f"{sweep}.yaml").read_text()
    else:
        names = ready_sweeps()
        raise InputError(
            f"there is no sweep file {sweep!r}, and no ready sweep of that name"
            f"{nearest(sweep, names)}; ready are {', '.join(names)}"
        )
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{sweep} is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise InputError(f"{sweep} is nested too deeply; a sweep file has four levels") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise InputError(f"{sweep} holds {found}; give a mapping of keys to values, such as `name: mine`")
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"sweep file {path} cannot be read ({error}); give a text file in UTF-8") from error


def _override(content: dict[str, Any], override: str) -> None:
    dotted, mark, value = override.partition("=")
    if not mark or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", dotted):
        raise InputError(f"--set {override!r}: expected key=value with a dotted key, such as space.beta2.high=0.99")
    *parents, last = dotted.split(".")
    place = content
    for parent in parents:
        inner = place.get(parent)
        if isinstance(inner, list):
            raise InputError(f"--set {override!r}: {parent} is a list; give it whole, as {parent}=[...]")
        if not isinstance(inner, dict):
            inner = {"name": inner} if parent == "trainer" and inner is not None else {}
            place[parent] = inner
        place = inner
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override!r}: the value is not YAML") from error
