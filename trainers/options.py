"""Options of the built-in trainers, as they come out of a sweep file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from search_spaces.errors import InputError


class Options(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


_Options = TypeVar("_Options", bound=Options)


def read_options(model: type[_Options], options: Mapping[str, object], trainer: str) -> _Options:
    """The options of a trainer, checked. Raises InputError naming the first one that is wrong."""
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise InputError(f"trainer {trainer!r}: {_first(error.errors(), model)}") from error


def _first(errors: list[Any], model: type[Options]) -> str:
    # A misspelt key that is needed is also missing: the misspelling is the news.
    problem = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = sorted(model.model_fields)
        nearest = difflib.get_close_matches(where, known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"it knows {', '.join(known)}"
        return f"unknown option {where!r}; {hint}"
    if problem["type"] == "missing":
        return f"option {where!r} is missing"
    return f"{where} is {problem['input']!r}: {problem['msg']}"
