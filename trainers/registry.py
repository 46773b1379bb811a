"""Name or "module:attribute" -> Trainer."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from pathlib import Path

from search_spaces.errors import InputError
from trainers.api import Trainer
from trainers.user import UserTrainer

# Imported only when built: torch takes a second.
BUILT_IN = {
    "lm": ("trainers.lm.trainer", "LMTrainer"),
    "synthetic": ("trainers.synthetic", "SyntheticTrainer"),
    "command": ("trainers.command", "CommandTrainer"),
}


def build(name: str, options: Mapping[str, object], folder: Path | None = None) -> Trainer:
    """The trainer of a name with its options.

    A `module:attribute` is looked for in `folder` too (default: the current one), after everything
    that is installed. Raises InputError for names that are not known and options that are wrong.
    """
    if name in BUILT_IN:
        module, attribute = BUILT_IN[name]
        trainer: Trainer = getattr(importlib.import_module(module), attribute)(options)
        return trainer
    module, _, attribute = name.partition(":")
    if module and attribute:
        return UserTrainer(name, options, folder or Path.cwd())
    nearest = difflib.get_close_matches(name, BUILT_IN, n=1)
    meant = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise InputError(f"no trainer is named {name!r}: give {', '.join(BUILT_IN)} or module:attribute{meant}")
