"""Options of the built-in trainers, as they come out of a sweep file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from search_spaces.errors import InputError
from trainers.explain import explain


class Options(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def whole(value: object) -> object:
    """YAML reads 1e6 as text or as a float, and pydantic takes yes for 1; a whole number is meant."""
    if isinstance(value, bool):
        raise ValueError("it should be a whole number")  # noqa: TRY004 - pydantic reports ValueErrors
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(whole), Field(ge=1)]

_Options = TypeVar("_Options", bound=Options)


def read_options(model: type[_Options], options: Mapping[str, object], trainer: str) -> _Options:
    """The options of a trainer, checked. Raises InputError naming the first one that is wrong."""
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise InputError(f"trainer {trainer!r}: {explain(error, model)}") from error
