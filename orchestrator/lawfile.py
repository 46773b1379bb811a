"""laws.json: fitted laws with their joint draws, and what they hold for. Exact in both directions.

A number that is not finite is written as null, and read back as not-a-number where a number must be.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ValidationError

from orchestrator.files import write_atomically
from orchestrator.laws.predict import Context
from orchestrator.laws.result import Estimate, Exclusion, FittedLaw, Status
from search_spaces.errors import InputError

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class LawSet:
    """The laws of one set of runs, what they hold for, and which could not be fitted and why."""

    context: Context
    laws: Mapping[str, FittedLaw]
    not_fitted: Mapping[str, str] = field(default_factory=dict)


LawSets = Mapping[str | None, LawSet]
"""A law set for each group of runs; the only key is None where the runs were not grouped."""


def write(path: Path, sets: LawSets) -> None:
    """Write laws.json, draws included; a reader sees the old file or the new one."""
    write_atomically(path, json.dumps(to_json(sets, with_draws=True), allow_nan=False).encode())


def read(path: Path) -> LawSets:
    """The law sets of a laws.json. Raises InputError where it is none."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give the laws.json that `fit --out` wrote") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); give the laws.json that `fit --out` wrote") from error
    try:
        return from_json(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def to_json(sets: LawSets, *, with_draws: bool) -> dict[str, Any]:
    """The content of laws.json as plain JSON values. Raises InputError where grouped and ungrouped are mixed."""
    parts = {group: _set_json(one, with_draws=with_draws) for group, one in sets.items()}
    if list(parts) == [None]:
        return {"schema": SCHEMA, **parts[None]}
    if None in parts:
        raise InputError("laws of all runs and laws of groups do not go into one file; write two")
    return {
        "schema": SCHEMA,
        "groups": {group: part["laws"] for group, part in parts.items()},
        "contexts": {group: part["context"] for group, part in parts.items()},
        "not_fitted": {group: part["not_fitted"] for group, part in parts.items()},
    }


def from_json(content: object) -> LawSets:
    """The law sets of a parsed laws.json. Raises InputError naming what is wrong with it."""
    schema = content.get("schema") if isinstance(content, Mapping) else None
    if not isinstance(content, Mapping) or schema != SCHEMA:
        raise InputError(f"its schema is {schema!r} where {SCHEMA} was expected; fit the laws again with `fit --out`")
    try:
        if "groups" not in content:
            return {None: _law_set(_SetModel.model_validate(content))}
        many = _GroupsModel.model_validate(content)
        return {group: _law_set(many.part(group)) for group in many.groups}
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{place or 'it'} is wrong: {first['msg']}; fit the laws again with `fit --out`") from error


def _set_json(one: LawSet, *, with_draws: bool) -> dict[str, Any]:
    return {
        "context": plain(one.context),
        "laws": {name: _law_json(law, with_draws=with_draws) for name, law in one.laws.items()},
        "not_fitted": dict(one.not_fitted),
    }


def _law_json(law: FittedLaw, *, with_draws: bool) -> dict[str, Any]:
    """The law without its name, which is its key, and without its draws where they are not wanted."""
    left_out = {"name"} if with_draws else {"name", "draws"}
    fields = (field.name for field in dataclasses.fields(law))
    return {name: plain(getattr(law, name)) for name in fields if name not in left_out}


def plain(value: object) -> object:
    """Nested dataclasses, mappings and arrays as JSON values; numbers that are not finite are None."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    elif isinstance(value, Enum):
        value = value.value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} has no place in laws.json")


def _nan_for_null(given: object) -> object:
    return math.nan if given is None else given


_Number = Annotated[float, BeforeValidator(_nan_for_null)]


class _EstimateModel(BaseModel):
    value: _Number
    low: float | None = None
    high: float | None = None
    stderr: float | None = None


class _LawModel(BaseModel):
    form: str
    parameters: dict[str, _EstimateModel]
    draws: dict[str, list[_Number]] = {}
    status: Status
    reason: str = ""
    confidence: float
    valid: dict[str, tuple[_Number, _Number]] = {}
    runs_used: int
    runs_excluded: list[Exclusion] = []
    objective: float | None = None
    tables: dict[str, list[dict[str, Any]]] = {}


class _SetModel(BaseModel):
    context: Context
    laws: dict[str, _LawModel]
    not_fitted: dict[str, str] = {}


class _GroupsModel(BaseModel):
    groups: dict[str, dict[str, _LawModel]]
    contexts: dict[str, Context]
    not_fitted: dict[str, dict[str, str]] = {}

    def part(self, group: str) -> _SetModel:
        if group not in self.contexts:
            raise InputError(f"contexts has no entry for the group {group!r}; fit the laws again with `fit --out`")
        return _SetModel.model_construct(
            context=self.contexts[group], laws=self.groups[group], not_fitted=self.not_fitted.get(group, {})
        )


def _law_set(part: _SetModel) -> LawSet:
    laws = {name: _law(name, law) for name, law in part.laws.items()}
    return LawSet(context=part.context, laws=laws, not_fitted=part.not_fitted)


def _law(name: str, law: _LawModel) -> FittedLaw:
    """Every field as it was read, but estimates and draws in the types of the law library."""
    values = {field: getattr(law, field) for field in _LawModel.model_fields}
    parameters = {key: Estimate(**dict(estimate)) for key, estimate in law.parameters.items()}
    draws = {key: np.asarray(numbers, dtype=float) for key, numbers in law.draws.items()}
    return FittedLaw(**{**values, "name": name, "parameters": parameters, "draws": draws})
