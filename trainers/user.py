"""A user's own Python trainer, named as `module:attribute`."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from search_spaces.errors import InputError
from trainers.api import Session, Trainer, TrialSpec

_TRAIN_ARGUMENTS = 2  # train(spec, session)


class UserTrainer:
    """Wraps what a user wrote: a class or factory that takes the options, or a function train(spec, session).

    Its version is the declared `version`, else the hash of the module's source; the options are in it.
    Raises InputError where the module or attribute is not there or is of no use as a trainer.
    """

    def __init__(self, name: str, options: Mapping[str, object], folder: Path) -> None:
        module_name, _, attribute = name.partition(":")
        module = _import(module_name, folder)
        target = getattr(module, attribute, None)
        if not callable(target):
            known = ", ".join(sorted(key for key, value in vars(module).items() if callable(value))) or "nothing"
            raise InputError(f"trainer {name!r}: {module_name} has no callable {attribute!r}; it has {known}")
        self._trainer = _build(name, target, options)
        self._train = target if self._trainer is None else self._trainer.train
        self.version = _version(name, module, self._trainer or target, options)

    def train(self, spec: TrialSpec, session: Session) -> None:
        """Train as the user wrote it."""
        self._train(spec, session)

    def warm_up(self) -> None:
        """What the user's trainer does before its first trial, if it has anything of the kind."""
        warm_up = getattr(self._trainer, "warm_up", None)
        if warm_up is not None:
            warm_up()


def _import(module: str, folder: Path) -> ModuleType:
    # At the end: a user's own `trainers` folder must not hide ours.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"trainer module {module!r} cannot be imported: {error}; it is looked for in {folder} "
            "and among the installed packages"
        ) from error


def _build(name: str, target: Callable[..., Any], options: Mapping[str, object]) -> Trainer | None:
    """The trainer that a class or factory makes; None for a plain training function."""
    if not inspect.isclass(target) and len(inspect.signature(target).parameters) == _TRAIN_ARGUMENTS:
        return None
    try:
        inspect.signature(target).bind(options)
    except TypeError as error:
        raise InputError(
            f"trainer {name!r} cannot be made from its options ({error}); let it take one argument, the options"
        ) from error
    trainer = target(options)
    if not callable(getattr(trainer, "train", None)):
        raise InputError(
            f"trainer {name!r} made a {type(trainer).__name__} without train(spec, session); give a class or "
            "factory that takes the options, or a function train(spec, session)"
        )
    return trainer  # type: ignore[no-any-return]


def _version(name: str, module: ModuleType, trainer: object, options: Mapping[str, object]) -> str:
    declared = getattr(trainer, "version", None)
    source = str(declared) if declared is not None else inspect.getsource(module)
    text = json.dumps([source, dict(options)], sort_keys=True, default=str)
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
