"""The {placeholders} of a command trainer's command."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping
from dataclasses import fields
from string import Formatter

from search_spaces.errors import InputError
from search_spaces.scale import ModelScale
from trainers.api import TrialSpec

PLACEHOLDERS = (
    *("learning_rate", "batch_size", "beta2", "seed", "tokens", "steps", "batch_tokens"),
    *(field.name for field in fields(ModelScale)),
    *("params", "non_embedding_params"),
)


def words_of(command: str) -> list[str]:
    """The command's words, as a shell would split them. Raises InputError for unknown placeholders."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"trainer 'command': {command!r} cannot be split into words: {error}") from error
    if not words:
        raise InputError("trainer 'command': the command is empty; give a program and its arguments")
    for word in words:
        _check(word)
    return words


def fill(word: str, spec: TrialSpec) -> str:
    """A word with the trial's values; numbers with all their digits."""
    return word.format_map({name: str(value) for name, value in _values(spec).items()})


def _values(spec: TrialSpec) -> Mapping[str, object]:
    settings = {name: getattr(spec.settings, name) for name in ("learning_rate", "batch_size", "beta2")}
    sizes = {"seed": spec.seed, "tokens": spec.tokens, "steps": spec.steps, "batch_tokens": spec.batch_tokens}
    scale = {name: getattr(spec.scale, name) for name in PLACEHOLDERS if hasattr(spec.scale, name)}
    return {**scale, **settings, **sizes}


def _check(word: str) -> None:
    try:
        parts = list(Formatter().parse(word))
    except ValueError as error:
        raise InputError(f"trainer 'command': {word!r}: {error}; a literal brace is written twice") from error
    for _, name, layout, conversion in parts:
        if name is None:
            continue
        if name not in PLACEHOLDERS:
            nearest = difflib.get_close_matches(name, PLACEHOLDERS, n=1)
            hint = f"did you mean {{{nearest[0]}}}?" if nearest else f"it knows {', '.join(PLACEHOLDERS)}"
            raise InputError(
                f"trainer 'command': unknown placeholder {{{name}}}; {hint} (a literal brace is written twice)"
            )
        if layout or conversion:
            raise InputError(f"trainer 'command': write {{{name}}} alone; formats are not known here ({word!r})")
