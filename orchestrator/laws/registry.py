"""The laws by name, and how all of them are fitted to one table of runs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from orchestrator.laws import chinchilla, frontier, hyperparameters, isoflop, isoflop_akima
from orchestrator.laws.optimum import OptimumFit
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import FittedLaw
from orchestrator.laws.selection import Selection
from orchestrator.laws.tuned import tuned_envelope, untuned_envelope
from search_spaces.errors import FitError, InputError

DRAWS = 1000


class Fit(Protocol):
    """What a law's module offers as `fit`."""

    def __call__(self, records: Sequence[RunRecord], *, confidence: float, seed: int, draws: int) -> FittedLaw:
        """Fit to points. Raises MissingColumnError or FitError where it cannot."""


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """What was fitted, and why the rest was not."""

    laws: Mapping[str, FittedLaw]
    not_fitted: Mapping[str, str] = field(default_factory=dict)


LOSS_LAWS: Mapping[str, Fit] = {
    chinchilla.NAME: chinchilla.fit,
    isoflop.NAME: isoflop.fit,
    isoflop_akima.NAME: isoflop_akima.fit,
    frontier.NAME: frontier.fit,
}
NAMES = (hyperparameters.NAME, *LOSS_LAWS)


def fit_laws(
    records: Sequence[RunRecord],
    *,
    names: Sequence[str] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    draws: int = DRAWS,
) -> FitReport:
    """Fit the named laws, or every law whose columns the records have.

    Loss laws see the tuned envelope where the cells have optima, else the lowest loss of each cell. The
    same records, in any order, and seed give the same result. Raises InputError for an unknown name,
    MissingColumnError where a named law lacks a column.
    """
    _check(names, confidence)
    ordered = sorted(records, key=lambda record: (record.run_id, record.tokens or 0.0))
    wanted = NAMES if names is None else tuple(dict.fromkeys(names))
    found, reason = _optima(ordered, confidence, seed, named=names is not None and hyperparameters.NAME in names)
    envelope = tuned_envelope(found[1]) if found else untuned_envelope(ordered)
    laws: dict[str, FittedLaw] = {}
    not_fitted: dict[str, str] = {}
    for name in wanted:
        if name == hyperparameters.NAME and found is None:
            not_fitted[name] = reason
            continue
        try:
            laws[name] = _fit(name, found, envelope, confidence=confidence, seed=seed, draws=draws)
        except FitError as error:
            not_fitted[name] = str(error)
        except InputError as error:
            if names is not None:
                raise
            not_fitted[name] = str(error)
    return FitReport(laws=laws, not_fitted=not_fitted)


def _fit(
    name: str,
    found: tuple[Selection, OptimumFit] | None,
    envelope: Sequence[RunRecord],
    *,
    confidence: float,
    seed: int,
    draws: int,
) -> FittedLaw:
    if found is None:
        return LOSS_LAWS[name](envelope, confidence=confidence, seed=seed, draws=draws)
    selection, optima = found
    if name == hyperparameters.NAME:
        return hyperparameters.fit_laws_through(selection, optima, confidence=confidence, seed=seed, draws=draws)
    law = LOSS_LAWS[name](envelope, confidence=confidence, seed=seed, draws=draws)
    return replace(law, runs_used=optima.runs, runs_excluded=(*selection.excluded, *law.runs_excluded))


def _optima(
    records: Sequence[RunRecord], confidence: float, seed: int, *, named: bool
) -> tuple[tuple[Selection, OptimumFit] | None, str]:
    """The optima, or why there are none. A missing column is an error only where the law was named."""
    try:
        return hyperparameters.find_optima(records, confidence=confidence, seed=seed), ""
    except FitError as error:
        return None, str(error)
    except InputError as error:
        if named:
            raise
        return None, str(error)


def _check(names: Sequence[str] | None, confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence:g}; give a number between 0 and 1, such as 0.95")
    for name in names or ():
        if name not in NAMES:
            nearest = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(NAMES)}"
            raise InputError(f"there is no law {name!r}; {hint}")
