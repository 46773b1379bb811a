"""The sweep file: pydantic models that refuse unknown keys, and the plan that they describe."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from orchestrator.databases import check_apart
from orchestrator.goal import Goal
from orchestrator.masking import refuse_secrets
from orchestrator.ports import Resources, TrainerRef
from orchestrator.storage.address import storage_address
from orchestrator.sweep_yaml import read_sweep
from search_spaces.axis import Axis, Fixed, LogUniform, OneMinusLog, PowersOfTwo
from search_spaces.errors import InputError
from search_spaces.ladders import ladder
from search_spaces.plan import Schedule, SweepPlan, plan_searches
from search_spaces.scale import Architecture, ModelScale
from search_spaces.space import SearchSpace
from trainers import registry
from trainers.explain import explain
from trainers.options import Count, whole

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _name(given: str) -> str:
    """Names become folders, MLflow experiments and tags: nothing in them may lead out of the run folder."""
    if not _NAME.fullmatch(given):
        raise ValueError("it should be 1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first")
    return given


Name = Annotated[str, AfterValidator(_name)]


def _number(given: object) -> object:
    """Pydantic takes yes for 1; a number is meant."""
    if isinstance(given, bool):
        raise ValueError("it should be a number")  # noqa: TRY004 - pydantic reports ValueErrors
    return given


Positive = Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False)]
Beta2 = Annotated[float, BeforeValidator(_number), Field(ge=0, lt=1)]


# Values of cluster.address that are no host:port.
LOCAL, AUTO, IN_PROCESS = "local", "auto", "in-process"
SECONDS_PER_MINUTE = 60.0

# Scales below the first one that is predicted before it starts: fewer tell no law.
FIRST_BACKTEST = 3


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
    beta2: Range | Beta2 = Range(low=0.9, high=0.999)

    def space(self) -> SearchSpace:
        """The space. Raises InputError naming the axis that is wrong."""
        return SearchSpace(
            learning_rate=_axis("learning_rate", LogUniform, self.learning_rate),
            batch_size=_axis("batch_size", PowersOfTwo, self.batch_size),
            beta2=_axis("beta2", OneMinusLog, self.beta2),
        )


def _axis(name: str, kind: type[LogUniform | PowersOfTwo | OneMinusLog], given: Range | float) -> Axis:
    if not isinstance(given, Range):
        return Fixed(given)
    try:
        return kind(given.low, given.high)
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
            if "schedule" in options:
                raise InputError(f"trainer.schedule is {options['schedule']!r}; give `schedule` beside `trainer`")
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
    """What one trial of a scale occupies. A fraction of a GPU lets several trials share it.

    Only nodes that carry all `labels` take the scale, such as `ray.io/market-type: spot`. An attempt that runs
    longer than `timeout_minutes` is ended.
    """

    cpus: Share = 1.0
    gpus: Share = 0.0
    memory_gib: Positive | None = None
    labels: dict[str, str] = {}
    timeout_minutes: Positive | None = None

    def resources(self) -> Resources:
        """What a pool is asked for."""
        wanted = self.model_dump(exclude={"timeout_minutes"})
        timeout_s = None if self.timeout_minutes is None else self.timeout_minutes * SECONDS_PER_MINUTE
        return Resources(**wanted, timeout_s=timeout_s)


def _address(given: str) -> str:
    host, mark, port = given.rpartition(":")
    if given in {LOCAL, AUTO, IN_PROCESS} or (mark and host and port.isdecimal() and 0 < int(port) < 2**16):
        return given
    raise ValueError(
        f"it should be {LOCAL} (Ray on this machine), {AUTO} (the cluster that this machine is part of), host:port of "
        f"a cluster's head, or {IN_PROCESS} (without Ray)"
    )


class ClusterSection(_Section):
    """Where Ray runs: `local` starts it here, `auto` joins the cluster of this machine, host:port one by its head.

    `in-process` does without Ray, for debugging: threads of the driver.
    """

    address: Annotated[str, AfterValidator(_address)] = LOCAL
    workers: Count | None = None  # at most so many at once, and what an autoscaler is asked for; None: what there is
    wait_minutes: Share = 0.0  # for nodes that are to come yet


class TrackingSection(_Section):
    """Where MLflow keeps the runs; None: mlflow.db in the run folder."""

    uri: str | None = None


class StudiesSection(_Section):
    """An Optuna database that the searches are copied to, for optuna-dashboard; None: nowhere."""

    uri: str | None = None


class TargetSection(_Section):
    """The run that the sweep is to predict. Without tokens, the longest tokens_per_param of the sweep."""

    params: Positive
    tokens: Positive | None = None


class BudgetSection(_Section):
    """What all trials together may cost: FLOP, or hours of workers."""

    flops: Positive | None = None
    device_hours: Positive | None = None


def _fraction(given: object) -> object:
    """`0.1%` is 0.001."""
    if isinstance(given, str) and given.strip().endswith("%"):
        return float(given.strip().removesuffix("%")) / 100
    return given


class StopSection(_Section):
    """The sweep has told enough when the target's expected regret is below this."""

    regret: Annotated[float, BeforeValidator(_fraction), Field(gt=0, lt=1)]


class SweepFile(_Section):
    """A whole sweep file. Every key has a meaning of its own in the README's table."""

    name: Name
    ladder: str | list[ScaleSection]
    tokens_per_param: Annotated[list[Positive], Field(min_length=1)] = [20.0]
    trials: Count = 16
    replicates: Count = 1  # runs of the best settings, at the smallest and at the largest scale
    backtest: bool = True  # hold the largest scale out, and predict it before its first trial
    space: SpaceSection = SpaceSection()
    sampler: Literal["law-guided", "tpe", "gp", "cmaes", "random", "grid"] = "law-guided"
    target: TargetSection | None = None  # what the sweep is for; trials go where they tell most about it
    budget: BudgetSection = BudgetSection()
    stop: StopSection | None = None
    schedule: Schedule = Schedule.CONSTANT
    seed: Annotated[int, BeforeValidator(whole), Field(ge=0)] = 0
    trainer: Annotated[TrainerSection, BeforeValidator(_trainer)] = TrainerSection()
    resources: dict[str, ResourcesSection] = {"default": ResourcesSection()}
    cluster: ClusterSection = ClusterSection()
    # A folder that all nodes share, or a URL such as s3://bucket/prefix, of this sweep alone; None: one machine.
    storage: Annotated[str, AfterValidator(storage_address)] | None = None
    tracking: TrackingSection = TrackingSection()
    studies: StudiesSection = StudiesSection()

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
            raise InputError(f"resources: no scale is named {unknown[0]!r}; known are {', '.join(known)}")
        for name, section in self.resources.items():
            if section.cpus == section.gpus == 0:
                raise InputError(f"resources.{name}: cpus and gpus are both 0; give at least one above 0")
        held_out = self.backtest and len(scales) > FIRST_BACKTEST
        guided = scales[FIRST_BACKTEST:] if self.sampler == "law-guided" else ()
        space = self.space.space()
        self._check_sampler(space)
        self._check_goal()
        searches = [
            plan_searches(
                scale=scale,
                space=space,
                tokens_per_param=tuple(self.tokens_per_param),
                trials=self.trials,
                schedule=self.schedule,
                seeds=self.replicates if scale in (scales[0], scales[-1]) else 1,
                held_out=held_out and (scale is scales[-1] or scale in guided),
                early=scale in guided,
            )
            for scale in scales
        ]
        return SweepPlan(
            name=self.name,
            searches=tuple(search for group in searches for search in group),
            schedule=self.schedule,
            seed=self.seed,
        )

    def goal(self) -> Goal:
        """What the sweep is for, and what it may cost."""
        target = None
        if self.target is not None:
            tokens = self.target.tokens or max(self.tokens_per_param) * self.target.params
            target = (self.target.params, tokens)
        return Goal(
            target=target,
            flops=self.budget.flops,
            device_hours=self.budget.device_hours,
            regret=self.stop.regret if self.stop else None,
        )

    def _check_goal(self) -> None:
        if self.stop is not None and self.target is None:
            raise InputError(
                f"stop.regret is {self.stop.regret:g} and there is no target; say whose regret: target: {{params: 7e9}}"
            )
        if self.target is not None and self.sampler != "law-guided":
            raise InputError(
                f"target is given and sampler is {self.sampler!r}; trials are placed for a target by the laws: "
                "use sampler: law-guided"
            )

    def _check_sampler(self, space: SearchSpace) -> None:
        searched = sum(not isinstance(axis, Fixed) for axis in space.axes().values())
        if self.sampler == "cmaes" and searched < 2:
            raise InputError(
                f"sampler is 'cmaes' and the space has {searched} settings to search; it needs 2: use 'tpe'"
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
        return section.resources()


# Values in a sweep file; a ladder of a hundred scales has a thousand. A guess.
_MOST_VALUES = 100_000


def load(sweep: str, overrides: Sequence[str] = ()) -> SweepFile:
    """A sweep file, or a ready sweep by its name, with `key=value` overrides.

    Raises InputError with one message for whatever is wrong with it.
    """
    return validate(read_sweep(sweep, overrides), source=sweep)


def validate(content: Mapping[str, Any], *, source: str) -> SweepFile:
    """The sweep that a mapping describes; `source` is named in the message if it is wrong."""
    _check_size(content, source)
    refuse_secrets(content, source=source)
    try:
        sweep = SweepFile.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error, SweepFile)}") from error
    trainer = sweep.trainer_ref()
    registry.check(trainer.name, trainer.options)
    check_apart(sweep.tracking.uri, sweep.studies.uri)
    return sweep


def _check_size(content: object, source: str) -> None:
    """Aliases let a short file stand for endless values; raises InputError for such a one."""
    rest, seen = [content], 0
    while rest:
        value = rest.pop()
        seen += 1
        if seen > _MOST_VALUES:
            raise InputError(f"{source} holds more than {_MOST_VALUES:,} values, or refers to itself; write it out")
        rest.extend(value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ())
