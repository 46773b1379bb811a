"""The law `downstream`: Err(L) = epsilon - k exp(-gamma L), average error on downstream tasks from the loss.

Gadre et al. 2024 (arXiv:2403.08540), equation 5: top-1 error, 0 to 1, averaged over many tasks (theirs
17 or 46: single tasks do not follow it), L the loss in nats per token on one fixed text. exp(-L) is one
over the perplexity. The objective is theirs, least squares on the error; a point more than OUTLIER off
the law counts by its distance. Chained after the law `overtraining` it gives the error at (C, M).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from orchestrator.laws import overtraining
from orchestrator.laws.common_rate import CommonRate, CommonRateFit, Rates, central_spread
from orchestrator.laws.loss_points import Parameters, need, offset_interval, positive_interval, too_wide, unidentified
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Estimate, FittedLaw, Floats, Status
from orchestrator.laws.selection import Selection, select
from search_spaces.errors import FitError

NAME = "downstream"
FORM = "epsilon - k exp(-gamma loss)"
COLUMNS = ("loss", "error")
PARAMETERS = 3
GAMMA_BOUNDS = (0.02, 20.0)  # per nat; published 0.7 to 1. A guess
OUTLIER = 0.05  # of the error; the paper's own residuals are below 0.02. A guess
# Runs below which next to nothing is left to judge the curve by. A guess; the paper has six.
SOUND_RUNS = 6
# The part of the errors' range that their scatter around the law may have; beyond it L says little. A guess.
MOST_SCATTER = 0.5


def error(parameters: Parameters, loss: npt.ArrayLike) -> Floats:
    """Error, 0 to 1, at a loss in nats per token; arguments broadcast."""
    k, gamma, epsilon = (np.asarray(parameters[name], float) for name in ("k", "gamma", "epsilon"))
    value: Floats = epsilon - k * np.exp(-gamma * np.asarray(loss, float))
    return value


def error_at(losses: Parameters, errors: Parameters, flops: npt.ArrayLike, tokens_per_param: npt.ArrayLike) -> Floats:
    """The chain (C, M) -> L -> Err through the parameters of `overtraining` and of this law.

    Draws of both are paired row by row; where the same runs fitted both laws under one seed, jointly.
    """
    return error(errors, overtraining.loss(losses, flops, tokens_per_param))


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law; replicates give whole runs other luck. Raises FitError below 4 distinct losses.

    `scatter` among the parameters is the standard deviation of a measured error around the law.
    """
    selection = usable(records)
    used = selection.used
    losses, errors = (np.array([getattr(record, name) for record in used], float) for name in ("loss", "error"))
    need(NAME, {"different losses with an error": (len(np.unique(losses)), PARAMETERS + 1)})
    units = tuple(record.run_id for record in used)
    fitted = CommonRateFit(
        CommonRate(exponents=losses[None], values=errors, units=units, signs=(-1,), rates=GAMMA_BOUNDS, outlier=OUTLIER)
    )
    replicates = fitted.replicates(draws, seed, dof=float(max(selection.runs - PARAMETERS, 1)))
    drawn = _parameters(replicates)
    parameters = {
        name: _estimate(name, float(column[0]), drawn[name], confidence)
        for name, column in _parameters(fitted.best).items()
    }
    squares = float((fitted.residuals**2).sum())
    scatter = float(np.sqrt(squares / (len(errors) - PARAMETERS)))
    reasons = _weaknesses(fitted.best, replicates) + too_wide({name: parameters[name] for name in ("k", "gamma")})
    reasons += _too_little(selection.runs, scatter, float(np.ptp(errors)))
    return FittedLaw(
        name=NAME,
        form=FORM,
        parameters=parameters | {"scatter": Estimate(value=scatter)},
        draws=drawn,
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid={name: (float(each.min()), float(each.max())) for name, each in (("loss", losses), ("error", errors))},
        runs_used=selection.runs,
        runs_excluded=selection.excluded,
        objective=squares,
    )


def usable(records: Sequence[RunRecord]) -> Selection:
    """The points with a loss and an error. Raises MissingColumnError, or FitError where none is left."""
    selection = select(records, COLUMNS, law=NAME)
    if not selection.used:
        raise FitError(f"the law {NAME!r} found no usable error among {len(records)} points; see the runs left out")
    return selection


def _parameters(rates: Rates) -> dict[str, Floats]:
    epsilon, k = rates.coefficients.T
    return {"k": k, "gamma": rates.rate, "epsilon": epsilon}


def _estimate(name: str, value: float, drawn: Floats, confidence: float) -> Estimate:
    make = offset_interval if name == "epsilon" else positive_interval
    found = make(value, drawn, confidence=confidence, dof=None)
    return replace(found, stderr=central_spread(drawn))


def _weaknesses(best: Rates, replicates: Rates) -> list[str]:
    return unidentified(
        {
            "k is zero": (best.absent[:, 1], replicates.absent[:, 1]),
            "epsilon is zero": (best.absent[:, 0], replicates.absent[:, 0]),
            "gamma is at a bound": (best.rate_at_bound, replicates.rate_at_bound),
        }
    )


def _too_little(runs: int, scatter: float, spread: float) -> list[str]:
    reasons = [f"only {runs} runs; {SOUND_RUNS} are needed to trust it"] if runs < SOUND_RUNS else []
    if scatter > MOST_SCATTER * spread:
        reasons.append(f"the errors scatter by {scatter:.2g} around the law and span only {spread:.2g}")
    return reasons
