"""The laws by name, and how all of them are fitted to one table of runs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypedDict

from orchestrator.laws import (
    adaptive,
    chinchilla,
    compute_only,
    critical_batch,
    data_constrained,
    downstream,
    envelope,
    frontier,
    hyperparameters,
    isoflop,
    isoflop_akima,
    joint,
    kaplan_c,
    kaplan_d,
    kaplan_n,
    kaplan_nd,
    kaplan_ns,
    overtraining,
    trajectory,
)
from orchestrator.laws.common_error import CommonError, with_common_error
from orchestrator.laws.optimum import OptimumFit
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Exclusion, FittedLaw
from orchestrator.laws.selection import Selection
from orchestrator.laws.tuned import Envelope, tuned_envelope, untuned_envelope, without_repeats
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
    overtraining.NAME: overtraining.fit,
    kaplan_n.NAME: kaplan_n.fit,
    kaplan_d.NAME: kaplan_d.fit,
    kaplan_nd.NAME: kaplan_nd.fit,
    kaplan_c.NAME: kaplan_c.fit,
    compute_only.NAME: compute_only.fit,
    frontier.NAME: frontier.fit,
    isoflop.NAME: isoflop.fit,
    isoflop_akima.NAME: isoflop_akima.fit,
}
# Laws of how runs go, and of what is known of single runs alone: they see the points as measured.
CURVE_LAWS: Mapping[str, Fit] = {
    envelope.NAME: envelope.fit,
    adaptive.NAME: adaptive.fit,
    critical_batch.NAME: critical_batch.fit,
    kaplan_ns.NAME: kaplan_ns.fit,
    trajectory.NAME: trajectory.fit,
    data_constrained.NAME: data_constrained.fit,
    downstream.NAME: downstream.fit,
}
NAMES = (*SETTING_LAWS, *ENVELOPE_LAWS, *CURVE_LAWS)
# Laws that repeated tokens tell something. The others are of new tokens, and see no run that repeated its own often;
# of these, Kaplan's choose the early stop on each dataset themselves, which the envelope cannot tell apart.
_OF_REPEATS = {kaplan_n.NAME, kaplan_d.NAME, kaplan_nd.NAME, data_constrained.NAME, downstream.NAME}


class _How(TypedDict):
    confidence: float
    seed: int
    draws: int


@dataclass(frozen=True, kw_only=True)
class _Views:
    """The same runs as the laws see them; `found` is None, with the reason, where no cell has an optimum.

    `measured` are all points; `curves` those of new tokens, from which the `repeated` runs are left out.
    """

    found: tuple[Selection, OptimumFit] | None
    reason: str
    envelope: Envelope
    curves: Sequence[RunRecord]
    measured: Sequence[RunRecord]
    repeated: tuple[Exclusion, ...]


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
    setting_named = names is not None and any(name in SETTING_LAWS for name in names)
    views = _views(records, curves, confidence, seed, named=setting_named)
    how = _How(confidence=confidence, seed=seed, draws=draws)
    laws: dict[str, FittedLaw] = {}
    not_fitted: dict[str, str] = {}
    for name in wanted:
        try:
            laws[name] = _fit(name, views, how)
        except FitError as error:
            not_fitted[name] = str(error)
        except InputError as error:
            if names is not None:
                raise
            not_fitted[name] = str(error)
    return FitReport(laws=laws, not_fitted=not_fitted)


def _views(
    records: Sequence[RunRecord], curves: Sequence[RunRecord] | None, confidence: float, seed: int, *, named: bool
) -> _Views:
    fresh, repeated = without_repeats(_ordered(records))
    measured = _ordered(records if curves is None else curves)
    found, reason = _optima(fresh, confidence, seed, named=named)
    return _Views(
        found=found,
        reason=reason,
        envelope=tuned_envelope(*found) if found else untuned_envelope(fresh),
        curves=without_repeats(measured)[0],
        measured=measured,
        repeated=repeated,
    )


def _ordered(records: Sequence[RunRecord]) -> list[RunRecord]:
    return sorted(records, key=lambda record: (record.run_id, record.tokens or 0.0))


def _fit(name: str, views: _Views, how: _How) -> FittedLaw:
    if name in _OF_REPEATS and (views.repeated or name in CURVE_LAWS):
        return {**ENVELOPE_LAWS, **CURVE_LAWS}[name](views.measured, **how)
    law = _fit_to_new_tokens(name, views, how)
    return replace(law, runs_excluded=(*views.repeated, *law.runs_excluded)) if views.repeated else law


def _fit_to_new_tokens(name: str, views: _Views, how: _How) -> FittedLaw:
    if views.repeated and not views.envelope.records:
        raise FitError(f"the law {name!r} is of new tokens, and every run repeats its own: see data-constrained")
    if name in CURVE_LAWS:
        return CURVE_LAWS[name](views.curves, **how)
    if name in ENVELOPE_LAWS:
        return _fit_to_envelope(name, views, how)
    if views.found is None:
        raise FitError(views.reason)
    return SETTING_LAWS[name](*views.found, **how)


def _fit_to_envelope(name: str, views: _Views, how: _How) -> FittedLaw:
    """The law with what the envelope left out and, of fitted optima, the error of loss that all of them share."""
    seen = views.envelope
    knowing_more: Mapping[str, Fit] = {
        kaplan_c.NAME: partial(kaplan_c.fit, curves=views.curves),
        chinchilla.NAME: partial(chinchilla.fit, covariance=seen.covariance),
    }
    law = knowing_more.get(name, ENVELOPE_LAWS[name])(seen.records, **how)
    if seen.runs is not None:
        law = replace(law, runs_used=seen.runs, runs_excluded=(*seen.excluded, *law.runs_excluded))
    if views.found is None or name == chinchilla.NAME:  # its replicates have the envelope's whole covariance
        return law
    return with_common_error(law, CommonError.of(views.found[1]))


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
