"""The laws by name, and how all of them are fitted to one table of runs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from orchestrator.laws import chinchilla, frontier, hyperparameters, isoflop, isoflop_akima, joint
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


class FitThroughOptima(Protocol):
    """What the module of a law of the settings offers: the cells' optima are found once for all of them."""

    def __call__(
        self, selection: Selection, optima: OptimumFit, *, confidence: float, seed: int, draws: int
    ) -> FittedLaw:
        """Fit the law through optima that are known. Raises FitError where it cannot."""


SETTING_LAWS: Mapping[str, FitThroughOptima] = {
    hyperparameters.NAME: hyperparameters.fit_laws_through,
    joint.NAME: joint.fit_with_optima,
}
# Laws of the loss that tuning reaches: they see the tuned envelope.
ENVELOPE_LAWS: Mapping[str, Fit] = {
    chinchilla.NAME: chinchilla.fit,
    isoflop.NAME: isoflop.fit,
    isoflop_akima.NAME: isoflop_akima.fit,
    frontier.NAME: frontier.fit,
}
# Laws of how a run goes: they see the points of all curves.
CURVE_LAWS: Mapping[str, Fit] = {}
NAMES = (*SETTING_LAWS, *ENVELOPE_LAWS, *CURVE_LAWS)


def fit_laws(
    records: Sequence[RunRecord],
    *,
    curves: Sequence[RunRecord] | None = None,
    names: Sequence[str] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    draws: int = DRAWS,
) -> FitReport:
    """Fit the named laws, or every law whose columns the records have.

    Laws of the loss see the tuned envelope where the cells have optima, else the lowest loss of each
    cell; laws of whole runs see `curves`, where these are not the records themselves. The same records,
    in any order, and seed give the same result. Raises InputError for an unknown name, MissingColumnError
    where a named law lacks a column.
    """
    _check(names, confidence)
    wanted = NAMES if names is None else tuple(dict.fromkeys(names))
    setting = [name for name in wanted if name in SETTING_LAWS]
    ordered = _ordered(records)
    found, reason = _optima(ordered, confidence, seed, named=names is not None and bool(setting))
    envelope = tuned_envelope(found[1]) if found else untuned_envelope(ordered)
    whole = ordered if curves is None else _ordered(curves)
    laws: dict[str, FittedLaw] = {}
    not_fitted = {} if found else dict.fromkeys(setting, reason)
    for name in wanted:
        if name in not_fitted:
            continue
        try:
            laws[name] = _fit(name, found, envelope, whole, confidence=confidence, seed=seed, draws=draws)
        except FitError as error:
            not_fitted[name] = str(error)
        except InputError as error:
            if names is not None:
                raise
            not_fitted[name] = str(error)
    return FitReport(laws=laws, not_fitted=not_fitted)


def _ordered(records: Sequence[RunRecord]) -> list[RunRecord]:
    return sorted(records, key=lambda record: (record.run_id, record.tokens or 0.0))


def _fit(
    name: str,
    found: tuple[Selection, OptimumFit] | None,
    envelope: Sequence[RunRecord],
    curves: Sequence[RunRecord],
    *,
    confidence: float,
    seed: int,
    draws: int,
) -> FittedLaw:
    if name in CURVE_LAWS:
        return CURVE_LAWS[name](curves, confidence=confidence, seed=seed, draws=draws)
    if found is None:
        return ENVELOPE_LAWS[name](envelope, confidence=confidence, seed=seed, draws=draws)
    selection, optima = found
    if name in SETTING_LAWS:
        return SETTING_LAWS[name](selection, optima, confidence=confidence, seed=seed, draws=draws)
    law = ENVELOPE_LAWS[name](envelope, confidence=confidence, seed=seed, draws=draws)
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
