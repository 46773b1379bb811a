"""The sweep file: pydantic models that refuse unknown keys, and the plan that they describe."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from orchestrator.ports import Resources, TrainerRef
from search_spaces.axis import Axis, Fixed, LogUniform, OneMinusLog, PowersOfTwo
from search_spaces.errors import InputError
from search_spaces.ladders import ladder
from search_spaces.plan import Schedule, SweepPlan, plan_searches
from search_spaces.scale import Architecture, ModelScale
from search_spaces.space import SearchSpace

# Names become folders, MLflow experiments and tags: nothing in them may lead out of the run folder.
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=_NAME)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Section):
    """A setting to search between two bounds."""

    low: Positive
    high: Positive


class SpaceSection(_Section):
    """What is searched: a range, or one number to keep a setting fixed. batch_size is in sequences."""

    learning_rate: Range | Positive = Range(low=3e-4, high=3e-2)
    batch_size: Range | Count = Range(low=1, high=64)
    beta2: Range | Positive = Range(low=0.9, high=0.999)

    def space(self) -> SearchSpace:
        """The space. Raises InputError naming the axis that is wrong."""
        return SearchSpace(
            learning_rate=_axis("learning_rate", LogUniform, self.learning_rate),
            batch_size=_axis("batch_size", PowersOfTwo, self.batch_size),
            beta2=_axis("beta2", OneMinusLog, self.beta2),
        )


def _axis(name: str, kind: type[LogUniform | PowersOfTwo | OneMinusLog], given: Range | float) -> Axis:
    try:
        if isinstance(given, Range):
            return kind(given.low, given.high)
        kind(given, given * 2 if kind is not OneMinusLog else (1 + given) / 2)  # the same rules as a bound
        return Fixed(given)
    except InputError as error:
        raise InputError(f"space.{name}: {error}") from error


class ScaleSection(_Section):
    """A scale of the user's own ladder."""

    name: Name
    depth: Count
    width: Count
    ffn_width: Count
    heads: Count
    vocab_size: Count
    sequence_length: Count
    architecture: Architecture = Architecture.LLAMA
    tied: bool = False

    @classmethod
    def of(cls, scale: ModelScale) -> ScaleSection:
        """The section that describes a scale."""
        return cls(**dataclasses.asdict(scale))


class TrainerSection(BaseModel):
    """How a trial is trained: a name of the registry or module:attribute, and its own options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = "lm"

    def ref(self, schedule: Schedule) -> TrainerRef:
        """What a worker builds its trainer from."""
        options = dict(self.model_extra or {})
        if self.name == "lm":
            options["schedule"] = schedule.value
        return TrainerRef(name=self.name, options=options)


def _trainer(given: object) -> object:
    """`trainer: lm`, `trainer: {command: ...}` and `trainer: {name: lm, ...}` are all meant."""
    if isinstance(given, str):
        return {"name": given}
    if isinstance(given, Mapping) and "command" in given and "name" not in given:
        return {"name": "command", **given}
    return given


class ResourcesSection(_Section):
    """What one trial of a scale occupies. A fraction of a GPU lets several trials share it."""

    cpus: Annotated[float, Field(ge=0)] = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0
    memory_gib: Positive | None = None


class ClusterSection(_Section):
    """Where Ray runs: `local` starts it here, `auto` joins the cluster of this machine.

    `in-process` does without Ray, for debugging: threads of the driver.
    """

    address: Literal["local", "auto", "in-process"] = "local"
    workers: Count | None = None  # at most so many at once; None: what the resources allow


class TrackingSection(_Section):
    """Where MLflow keeps the runs; None: mlflow.db in the run folder."""

    uri: str | None = None


class SweepFile(_Section):
    """A whole sweep file. Every key has a meaning of its own in the README's table."""

    name: Name
    ladder: str | list[ScaleSection]
    tokens_per_param: Annotated[list[Positive], Field(min_length=1)] = [20.0]
    trials: Count = 16
    replicates: Count = 1  # runs of the best settings, at the smallest and at the largest scale
    backtest: bool = True  # hold the largest scale out, and predict it before its first trial
    space: SpaceSection = SpaceSection()
    sampler: Literal["tpe", "gp", "cmaes", "random", "grid"] = "tpe"
    schedule: Schedule = Schedule.CONSTANT
    seed: Annotated[int, Field(ge=0)] = 0
    trainer: Annotated[TrainerSection, BeforeValidator(_trainer)] = TrainerSection()
    resources: dict[str, ResourcesSection] = {"default": ResourcesSection()}
    cluster: ClusterSection = ClusterSection()
    tracking: TrackingSection = TrackingSection()

    def scales(self) -> tuple[ModelScale, ...]:
        """The ladder, smallest first."""
        if isinstance(self.ladder, str):
            found = ladder(self.ladder)
        else:
            found = tuple(ModelScale(**section.model_dump()) for section in self.ladder)
        return tuple(sorted(found, key=lambda scale: scale.params))

    def plan(self) -> SweepPlan:
        """The searches. Raises InputError where they cannot be."""
        scales = self.scales()
        unknown = sorted(set(self.resources) - {scale.name for scale in scales} - {"default"})
        if unknown:
            known = [*(scale.name for scale in scales), "default"]
            raise InputError(f"resources: no scale is named {unknown[0]!r}{nearest(unknown[0], known)}")
        held_out = self.backtest and len(scales) > 3
        space = self.space.space()
        searches = [
            plan_searches(
                scale=scale,
                space=space,
                tokens_per_param=tuple(self.tokens_per_param),
                trials=self.trials,
                schedule=self.schedule,
                seeds=self.replicates if scale in (scales[0], scales[-1]) else 1,
                held_out=held_out and scale is scales[-1],
            )
            for scale in scales
        ]
        return SweepPlan(
            name=self.name,
            searches=tuple(search for group in searches for search in group),
            schedule=self.schedule,
            seed=self.seed,
        )

    def resolved(self) -> dict[str, Any]:
        """The whole sweep as plain values, with the ladder written out: what a run folder keeps."""
        content: dict[str, Any] = self.model_dump(mode="json")
        content["ladder"] = [ScaleSection.of(scale).model_dump(mode="json") for scale in self.scales()]
        return content

    def trainer_ref(self) -> TrainerRef:
        """What a worker builds its trainer from."""
        return self.trainer.ref(self.schedule)

    def resources_of(self, scale: str) -> Resources:
        """What a trial of this scale occupies."""
        section = self.resources.get(scale) or self.resources.get("default") or ResourcesSection()
        return Resources(**section.model_dump())


READY = resources.files("search_spaces") / "sweeps"


def ready_sweeps() -> tuple[str, ...]:
    """Names of the sweeps that come with scalesweep."""
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in READY.iterdir() if entry.name.endswith(".yaml")))


def load(sweep: str, overrides: Sequence[str] = ()) -> SweepFile:
    """A sweep file, or a ready sweep by its name, with `key=value` overrides.

    Raises InputError with one message for whatever is wrong with it.
    """
    content = _read(sweep)
    for override in overrides:
        _override(content, override)
    return validate(content, source=sweep)


def validate(content: Mapping[str, Any], *, source: str) -> SweepFile:
    """The sweep that a mapping describes; `source` is named in the message if it is wrong."""
    try:
        return SweepFile.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error, SweepFile)}") from error


def _read(sweep: str) -> dict[str, Any]:
    path = Path(sweep)
    if path.is_file():
        text = path.read_text()
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
    if not isinstance(content, dict):
        raise InputError(f"{sweep} holds {type(content).__name__}; a sweep file is a mapping of keys to values")
    return content


def _override(content: dict[str, Any], override: str) -> None:
    dotted, mark, value = override.partition("=")
    if not mark or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", dotted):
        raise InputError(f"--set {override!r}: expected key=value with a dotted key, such as space.beta2.high=0.99")
    *parents, last = dotted.split(".")
    place = content
    for parent in parents:
        inner = place.get(parent)
        if not isinstance(inner, dict):
            inner = {} if inner is None or parent != "trainer" else {"name": inner}
            place[parent] = inner
        place = inner
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override!r}: the value is not YAML") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing that is wrong, in one sentence: where, what was given, what was expected."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"] if not _is_type_label(part))
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, first["loc"][:-1])
        key = str(first["loc"][-1])
        return f"unknown key {place!r}{nearest(key, known)}; known here: {', '.join(known)}"
    if first["type"] == "missing":
        return f"{place!r} is missing; add it"
    given = first.get("input")
    return f"{place!r} is {given!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _is_type_label(part: object) -> bool:
    """Pydantic names the branch of a union in the place; a user never wrote that."""
    return isinstance(part, str) and (part in {"Range", "float", "int", "str"} or "[" in part)


def _known_keys(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    current: Any = model
    for part in place:
        if not isinstance(part, str) or _is_type_label(part):
            continue
        if isinstance(current, type) and issubclass(current, BaseModel) and part in current.model_fields:
            current = _model_inside(current.model_fields[part].annotation)
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _model_inside(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_inside(argument)
        if found is not None:
            return found
    return None


def nearest(given: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?`, or nothing where nothing is near."""
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
