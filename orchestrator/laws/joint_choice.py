"""Which variant of the joint law predicts the settings of cells that it has not seen best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from orchestrator.laws.held_out import excess, mean_excess
from orchestrator.laws.joint_fit import JointData, JointFit, fit_form
from orchestrator.laws.joint_form import Form
from orchestrator.laws.result import Floats

# Excess log loss above a cell's lowest within which runs count: where to begin, and what else to try.
WINDOW, WINDOWS = 0.05, (0.02, 0.1, 0.3)
# Another variant must lower the held-out excess by this factor: what is nearly as good by chance is no choice.
HANDICAP = 0.9


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A variant fitted to all cells, the same without each unit in turn, and their mean held-out excess.

    `without` has a fit a unit, in the order of `units`; `above` (cells,) is the excess log loss of the
    settings that each cell would have been given.
    """

    fit: JointFit
    without: tuple[JointFit, ...]
    above: Floats
    score: float

    @property
    def jackknife(self) -> Floats:
        """The shared parameters without each unit, (units, parameters)."""
        return np.stack([each.shared for each in self.without])


def judge(data: JointData, form: Form) -> Judged:
    """Fit a variant to all cells, and to all but each unit's."""
    everything = np.arange(data.sizes.log_params.size)
    fit = fit_form(data, form, everything)
    without, above = [], np.empty(everything.size)
    for unit in np.unique(data.unit):
        held = np.flatnonzero(data.unit == unit)
        rest = fit_form(data, form, np.flatnonzero(data.unit != unit), start=fit)
        tokens = rest.places(data.sizes[held])
        steps = replace(data, usual_batch=data.usual_batch[held]).in_steps(tokens)
        above[held] = excess(data.optima, data.cells[held], steps)
        without.append(rest)
    return Judged(fit=fit, without=tuple(without), above=above, score=mean_excess(above, data.unit))


def choose(data: JointData, terms: Sequence[tuple[str, ...]]) -> tuple[Judged, tuple[Judged, ...]]:
    """The best variant, and all that were tried, from the identifiable `terms` of each setting.

    One thing is changed at a time, and kept where it lowers the held-out excess by HANDICAP.
    """
    best = judge(data, Form(terms=tuple(terms), window=WINDOW))
    tried = [best]
    for change in _changes(data, terms):
        form = change(best.fit.form)
        if any(form == each.fit.form for each in tried):
            continue
        found = judge(data, form)
        tried.append(found)
        if found.score < HANDICAP * best.score:
            best = found
    return best, tuple(tried)


def _changes(data: JointData, terms: Sequence[tuple[str, ...]]) -> Iterator[Callable[[Form], Form]]:
    """What a variant may have otherwise, one thing each."""
    for window in WINDOWS:
        yield partial(replace, window=window)
    yield partial(replace, skewed=False)
    if data.offset > 0:
        yield partial(replace, relative=True)
    if data.loss_start is not None:
        yield partial(replace, parametric=True)
    for setting, full in enumerate(terms):
        single = [(term,) for term in full] if len(full) > 1 else []
        for fewer in (*single, ()):
            yield partial(_with_terms, setting=setting, terms=fewer)


def _with_terms(form: Form, *, setting: int, terms: tuple[str, ...]) -> Form:
    changed = list(form.terms)
    changed[setting] = terms
    return replace(form, terms=tuple(changed))
