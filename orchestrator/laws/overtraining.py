"""The law `overtraining`: L(C, M) = E + (a M^eta + b M^-eta) C^-eta, loss far beyond the optimal tokens.

Gadre et al. 2024 (arXiv:2403.08540), equation 4: C the compute (`flops`; theirs is 6 N D), M = D / N,
N all parameters with both embeddings in the paper, here what `params` counts. It is Hoffmann's law with
alpha = beta = 2 eta. The objective is theirs, least squares on the loss in nats per token; a point more
than OUTLIER nats off the law counts by its distance. M* = (b / a)^(1 / (2 eta)), the split that would be
best, is identified only by runs on both sides of it: by the paper's small runs it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from orchestrator.laws.common_rate import CommonRate, CommonRateFit, Rates, central_spread
from orchestrator.laws.loss_points import (
    LossPoints,
    Parameters,
    loss_points,
    need,
    offset_interval,
    positive_interval,
    too_few_scales,
    too_wide,
    unidentified,
)
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Estimate, FittedLaw, Floats, Status

NAME = "overtraining"
FORM = "E + (a M^eta + b M^-eta) / flops^eta, M = tokens / params"
COLUMNS = ("params", "tokens", "loss")
PARAMETERS = 4
# Those that points of one run say nothing about (E, a, eta), as in chinchilla.py.
BETWEEN_SCALES = 3
# eta = alpha / 2, and alpha lies between 0.03 and 1 in every published fit; varpro.py's bounds on alpha.
ETA_BOUNDS = (0.0025, 1.5)
OUTLIER = 0.1  # nats; the paper's own residuals are below 0.02. A guess


def loss(parameters: Parameters, flops: npt.ArrayLike, tokens_per_param: npt.ArrayLike) -> Floats:
    """Loss in nats per token; all arguments broadcast."""
    E, a, b, eta = (np.asarray(parameters[name], float) for name in ("E", "a", "b", "eta"))
    ratio = np.asarray(tokens_per_param, float)
    value: Floats = E + (a * ratio**eta + b * ratio**-eta) * np.asarray(flops, float) ** -eta
    return value


def best_tokens_per_param(parameters: Parameters) -> Floats:
    """M* = (b / a)^(1 / (2 eta)): where no other split of the same compute gives a lower loss."""
    a, b, eta = (np.asarray(parameters[name], float) for name in ("a", "b", "eta"))
    value: Floats = (b / a) ** (1 / (2 * eta))
    return value


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law; replicates give whole runs other luck. Raises FitError below 3 sizes, 2 values of M or 5 points."""
    points = loss_points(records, law=NAME)
    ratios = len(np.unique(np.round(np.log(points.tokens / points.params), 2)))
    need(NAME, {"sizes": (points.scales, 3), "tokens per param": (ratios, 2), "points": (len(points.loss), 5)})
    fitted = CommonRateFit(_problem(points))
    replicates = fitted.replicates(draws, seed, dof=_degrees(points))
    drawn = _parameters(replicates)
    parameters = {
        name: _estimate(name, float(column[0]), drawn[name], confidence)
        for name, column in _parameters(fitted.best).items()
    }
    reasons = too_few_scales(points.scales) + _weaknesses(fitted.best, replicates)
    reasons += too_wide({name: parameters[name] for name in ("E", "eta")})
    return FittedLaw(
        name=NAME,
        form=FORM,
        parameters=parameters,
        draws=drawn,
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid=points.valid,
        runs_used=points.runs,
        runs_excluded=points.excluded,
        objective=float((fitted.residuals**2).sum()),
    )


def _problem(points: LossPoints) -> CommonRate:
    """The terms a (C / M)^-eta and b (C M)^-eta."""
    log_flops, log_ratio = np.log(points.flops), np.log(points.tokens / points.params)
    return CommonRate(
        exponents=np.stack([log_flops - log_ratio, log_flops + log_ratio]),
        values=points.loss,
        units=points.units,
        signs=(1, 1),
        rates=ETA_BOUNDS,
        outlier=OUTLIER,
    )


def _parameters(rates: Rates) -> dict[str, Floats]:
    E, a, b = rates.coefficients.T
    return {"a": a, "b": b, "eta": rates.rate, "E": E}


def _degrees(points: LossPoints) -> float:
    curves = points.runs < len(points.loss)
    return float(max(points.runs - (BETWEEN_SCALES if curves else PARAMETERS), 1))


def _estimate(name: str, value: float, drawn: Floats, confidence: float) -> Estimate:
    make = offset_interval if name == "E" else positive_interval
    found = make(value, drawn, confidence=confidence, dof=None)
    return replace(found, stderr=central_spread(drawn))


def _weaknesses(best: Rates, replicates: Rates) -> list[str]:
    at_bound = {
        f"{name} is zero": (best.absent[:, at], replicates.absent[:, at]) for at, name in enumerate(("E", "a", "b"))
    }
    return unidentified(at_bound | {"eta is at a bound": (best.rate_at_bound, replicates.rate_at_bound)})
