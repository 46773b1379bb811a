"""What pydantic found wrong with a user's file, in one sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from search_spaces.nearest import nearest

# A value is shown up to this many characters.
_SHOWN = 80
# How pydantic names the branches of a union that are no models.
_BRANCH = re.compile(r"(constrained-)?(bool|float|int|none|str)|.*\[.*\]")
# Its sentences, as they go on after the value; the first that is found.
_WORDS = {
    "valid dictionary": "it should be a mapping of keys to values",
    "valid list": "it should be a list in square brackets",
    "valid integer": "it should be a whole number",
    "valid boolean": "it should be true or false",
}


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing that is wrong: where, what was given, what was expected."""
    problems = error.errors(include_url=False)
    together = Counter(problem["loc"][:-1] for problem in problems)
    first = min(problems, key=lambda problem: _rank(problem, together))
    place, models = _place(first["loc"], model)
    if first["type"] == "extra_forbidden":
        known = [name for found in models for name in found.model_fields]
        return f"unknown key {place!r}{nearest(str(first['loc'][-1]), known) or ';'} known here: {', '.join(known)}"
    if first["type"] == "missing":
        return f"key {place!r} is missing; add it"
    if first["type"] == "invalid_key":
        return f"key {first['input']!r} is no text; put it in quotes"
    return f"{place} is {_shown(first['input'])}; {_expected(first['msg'])}"


def _rank(problem: Any, together: Mapping[Any, int]) -> tuple[bool, int, bool, int]:  # noqa: ANN401 - ErrorDetails
    """The news first.

    Of the branches of a union, the one that the value was meant for has fewest to complain about, and the
    others say that it is of another type altogether. A misspelt key that is needed is also missing: the
    misspelling is the news.
    """
    kind, location = str(problem["type"]), problem["loc"]
    return kind.endswith("_type"), together[location[:-1]], kind != "extra_forbidden", -len(location)


def _place(location: Sequence[str | int], model: type[BaseModel]) -> tuple[str, list[type[BaseModel]]]:
    """The dotted key as the user wrote it, and the models whose keys are known where its last part stands."""
    shown: list[str] = []
    models, inside = [model], [model]
    for part in location:
        if _is_branch(part, inside):
            inside = [found for found in inside if found.__name__ == part] or inside
            continue
        shown.append(str(part))
        models = inside
        field = next((found.model_fields[part] for found in inside if part in found.model_fields), None)
        if field is not None:
            inside = _models_in(field.annotation)
    return ".".join(shown), models


def _is_branch(part: str | int, models: Sequence[type[BaseModel]]) -> bool:
    """Pydantic names the branch of a union in the place; a user never wrote that."""
    names = {found.__name__ for found in models}
    return isinstance(part, str) and (part in names or _BRANCH.fullmatch(part) is not None)


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in getattr(annotation, "__args__", ()) for found in _models_in(inner)]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _expected(message: str) -> str:
    known = next((words for found, words in _WORDS.items() if found in message), None)
    if known is not None:
        return known
    text = message.removeprefix("Value error, ")
    text = re.sub("^(Input|List|String|Dictionary|Value) should ", "it should ", text)
    return re.sub(", unable to parse.*| after validation.*", "", text)
