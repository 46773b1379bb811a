"""Name or "module:attribute" -> Trainer."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from search_spaces.errors import InputError
from search_spaces.nearest import nearest
from trainers.api import Trainer
from trainers.options import read_options
from trainers.user import UserTrainer

# Imported only when built: torch takes a second.
BUILT_IN = {
    "lm": ("trainers.lm.trainer", "LMTrainer"),
    "synthetic": ("trainers.synthetic", "SyntheticTrainer"),
    "command": ("trainers.command", "CommandTrainer"),
}
# Light to import, so that a wrong sweep file is answered at once.
_OPTIONS = {
    "lm": ("trainers.lm.options", "LMOptions"),
    "synthetic": ("trainers.synthetic", "SyntheticOptions"),
    "command": ("trainers.command", "CommandOptions"),
}


def check(name: str, options: Mapping[str, object]) -> None:
    """Raises InputError where a name or its options are wrong, as far as their form tells."""
    if name in _OPTIONS:
        module, attribute = _OPTIONS[name]
        read_options(getattr(importlib.import_module(module), attribute), options, name)
    else:
        _check_name(name)


def build(name: str, options: Mapping[str, object], folder: Path | None = None) -> Trainer:
    """The trainer of a name with its options.

    A `module:attribute` is looked for in `folder` too (default: the current one), after everything
    that is installed. Raises InputError for names that are not known and options that are wrong.
    """
    if name in BUILT_IN:
        module, attribute = BUILT_IN[name]
        trainer: Trainer = getattr(importlib.import_module(module), attribute)(options)
        return trainer
    _check_name(name)
    return UserTrainer(name, options, folder or Path.cwd())


def _check_name(name: str) -> None:
    """Raises InputError where a name is no module:attribute."""
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise InputError(
            f"no trainer is named {name!r}: give {', '.join(BUILT_IN)} or module:attribute{nearest(name, BUILT_IN)}"
        )
