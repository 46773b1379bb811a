"""From the fit of tuned loss curves to a law with intervals, status, a row for each curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.laws.critical_batch import bounded_exp, critical_batch, weaknesses
from orchestrator.laws.jackknife import jackknife_draws
from orchestrator.laws.loss_curve_fit import LossCurveFit
from orchestrator.laws.loss_points import positive_interval, too_few_scales, too_wide
from orchestrator.laws.result import Estimate, FittedLaw, Floats, Status

# Two parameters describe how the loss falls with size; two sizes would leave nothing over.
FEWEST_SCALES = 3
# Curves further than this part of loss from the law are not tuned, or follow another law. A guess:
# several times the noise between runs of equal settings.
WIDEST_SCATTER = 0.02


def curve_law(
    fitted: LossCurveFit, *, name: str, form: str, names: Sequence[str], confidence: float, seed: int, draws: int
) -> FittedLaw:
    """The law with the parameters `names`. Table `curves`: each tuned curve and its mean error."""
    curves = fitted.curves
    theta = jackknife_draws(fitted.theta, fitted.left_out, dof=fitted.dof, draws=draws, seed=seed)
    drawn, values = fitted.parameters(theta), fitted.parameters(fitted.theta[None])
    every = {
        parameter: positive_interval(float(value[0]), drawn[parameter], confidence=confidence, dof=None)
        for parameter, value in values.items()
    }
    reasons = _weaknesses(fitted, every, drawn, confidence)
    return FittedLaw(
        name=name,
        form=form.replace("params", curves.count),
        parameters={parameter: every[parameter] for parameter in names},
        draws={parameter: drawn[parameter] for parameter in names},
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid=curves.valid,
        runs_used=curves.runs,
        runs_excluded=curves.excluded,
        objective=fitted.value,
        tables={"curves": _rows(fitted)},
    )


def _weaknesses(
    fitted: LossCurveFit, every: Mapping[str, Estimate], drawn: Mapping[str, Floats], confidence: float
) -> list[str]:
    middle = float(np.exp(fitted.objective.middle))
    at_middle = critical_batch(drawn, middle)
    own = float(bounded_exp(fitted.theta[4]))
    wide = {parameter: every[parameter] for parameter in ("alpha_N", "alpha_S", "alpha_B")}
    wide["B_crit"] = positive_interval(own, at_middle, confidence=confidence, dof=None)
    reasons = weaknesses(fitted.tradeoff) + too_few_scales(fitted.curves.scales)
    reasons += [f"{parameter} is at a bound: these curves do not identify it" for parameter in fitted.at_bound]
    reasons += [f"the term of the {term} is zero: these curves do not identify it" for term in fitted.absent]
    if fitted.scatter > WIDEST_SCATTER:
        reasons.append(f"the curves lie {fitted.scatter:.1%} from the law: are they tuned?")
    return list(dict.fromkeys(reasons + too_wide(wide)))


def _rows(fitted: LossCurveFit) -> list[dict[str, Any]]:
    """Each curve: its size, batch, steps, last loss and the law's mean and largest relative error on it."""
    curves, errors = fitted.curves, fitted.objective.errors(fitted.theta[None])[0]
    rows = []
    for number in range(curves.curves):
        mine = np.flatnonzero(curves.curve == number)
        rows.append(
            {
                "params": float(curves.params[mine[0]]),
                "batch_tokens": float(curves.batch_tokens[mine[0]]),
                "steps": float(curves.steps[mine[-1]]),
                "loss": float(curves.loss[mine[-1]]),
                "mean_error": float(np.expm1(errors[mine].mean())),
                "largest_error": float(np.expm1(np.abs(errors[mine]).max())),
            }
        )
    return rows
