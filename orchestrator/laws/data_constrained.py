"""The law `data-constrained`: L = E + A / N'^alpha + B / D'^beta, where tokens are repeated for many epochs.

Muennighoff et al. 2023 (arXiv:2305.16264), equations 5 to 8, with their objective, Huber's loss (1e-3) on
log loss. Of D tokens U are unique (`unique_tokens`; all of them where a run says nothing):
D' = U (1 + R_D (1 - e^(-(D/U - 1)/R_D))), N' likewise from N, R_N and U_N, the N for which U tokens are
compute-optimal under the same A, B, alpha, beta and C = 6 N D. The published R_D is 15.39 (so that up to
four epochs are worth nearly as much as new tokens) and R_N 5.31, from fits with alpha = beta, which stands
as the table `tied` beside the free one. N is what `params` counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from orchestrator.laws.curve_fit import Curve, CurveFit, Fitted
from orchestrator.laws.loss_points import (
    LossPoints,
    Parameters,
    loss_points,
    need,
    offset_interval,
    positive_interval,
    replicate_weights,
    too_few_scales,
    too_wide,
    unidentified,
)
from orchestrator.laws.newton import Samples
from orchestrator.laws.one_step import one_step
from orchestrator.laws.records import RunRecord
from orchestrator.laws.repeated_tokens import Counts, RepeatedTokens, log_loss, optimal_params_for, saturated
from orchestrator.laws.resample import unit_indices
from orchestrator.laws.result import Estimate, Exclusion, FittedLaw, Floats, Status
from orchestrator.laws.selection import require_columns
from orchestrator.laws.tuned import untuned_envelope
from orchestrator.laws.varpro import ABSENT, EXPONENT_BOUNDS, SumOfPowers, VariableProjection

NAME = "data-constrained"
FORM = "E + A / N'^alpha + B / D'^beta, N' and D' saturating with R_N and R_D"
COLUMNS = ("params", "tokens", "loss", "unique_tokens")
PARAMETERS = 7
# Repetitions after which a token (R_D) or a parameter (R_N) is worth 1/e less; bounds are guesses.
SCALE_BOUNDS = (0.1, 1000.0)
STARTS_D, STARTS_N = (2.0, 6.0, 20.0, 100.0), (1.0, 5.0, 25.0)
REPEATED = 1.5  # epochs from which a run says something about repetition. A guess
# More points than this are thinned, the same number from each run: bounds the time of a fit. A guess.
MOST_POINTS, FEWEST_A_RUN = 4000, 3
# Up to so many points each replicate is fitted to the end; beyond, one Newton step from the fit is as good. A guess.
MOST_POLISHED = 600
STARTING_POINTS = 500  # for a start, more say nothing. A guess
# The places of a free theta in one with alpha = beta, and back.
_TIE, _UNTIE = [0, 1, 2, 3, 5, 6], [0, 1, 2, 3, 3, 4, 5]


def loss(parameters: Parameters, params: npt.ArrayLike, tokens: npt.ArrayLike, unique_tokens: npt.ArrayLike) -> Floats:
    """Loss in nats per token; all arguments broadcast. Unique tokens beyond `tokens` change nothing."""
    E, A, B, alpha, beta = (np.asarray(parameters[name], float) for name in ("E", "A", "B", "alpha", "beta"))
    value: Floats = (
        E
        + A * effective_params(parameters, params, tokens, unique_tokens) ** -alpha
        + B * effective_tokens(parameters, tokens, unique_tokens) ** -beta
    )
    return value


def effective_tokens(parameters: Parameters, tokens: npt.ArrayLike, unique_tokens: npt.ArrayLike) -> Floats:
    """D': how many new tokens would be worth as much."""
    return saturated(tokens, unique_tokens, parameters["R_D"])


def effective_params(
    parameters: Parameters, params: npt.ArrayLike, tokens: npt.ArrayLike, unique_tokens: npt.ArrayLike
) -> Floats:
    """N': how many parameters would be worth as much if the data sufficed for them."""
    enough = optimal_params_for(parameters, np.minimum(tokens, unique_tokens))
    return saturated(params, enough, parameters["R_N"])


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law; replicates reweight whole runs.

    Of runs that differ in their settings alone the lowest counts. Raises MissingColumnError without
    unique_tokens, FitError below 3 sizes, 3 token counts, 3 repeated points or 8 points.
    """
    data = repeated_points(records)
    points = data.points
    epochs = points.tokens / data.unique
    need(
        NAME,
        {
            "sizes": (points.scales, 3),
            "token counts": (len(np.unique(points.tokens)), 3),
            f"points of {REPEATED:g} epochs or more": (int((epochs > REPEATED).sum()), 3),
            "points": (len(points.loss), PARAMETERS + 1),
        },
    )
    fitted = _Fit(data)
    replicates = fitted.replicates(draws, seed)
    drawn = fitted.parameters(replicates.theta)
    values = {name: float(column[0]) for name, column in fitted.parameters(fitted.free.best.theta).items()}
    estimates = _estimates(values, drawn, confidence=confidence, runs=points.runs)
    reasons = too_few_scales(points.scales) + _weaknesses(fitted.free.best, replicates)
    reasons += too_wide({name: estimates[name] for name in ("E", "alpha", "beta", "R_D", "R_N")})
    return FittedLaw(
        name=NAME,
        form=FORM,
        parameters=estimates,
        draws=drawn,
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid=points.valid | {"epochs": (float(epochs.min()), float(epochs.max()))},
        runs_used=points.runs,
        runs_excluded=(*data.excluded, *points.excluded),
        objective=float(fitted.free.best.objective[0]),
        tables={"tied": [fitted.tied()]},
    )


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """Points, and the unique tokens (points,) that each was trained on, no more than its tokens."""

    points: LossPoints
    unique: Floats
    excluded: tuple[Exclusion, ...]


def free_fit(data: Repeated) -> CurveFit:
    """The fit with alpha and beta apart."""
    return _Fit(data).free


def repeated_points(records: Sequence[RunRecord]) -> Repeated:
    """What the law is fitted to. Raises MissingColumnError without unique_tokens."""
    require_columns(records, COLUMNS, law=NAME)
    broken = {
        record.run_id: Exclusion(run=record.run_id, reason=f"unique_tokens is {given:g}, not a positive finite number")
        for record in records
        if (given := record.unique_tokens) is not None and not (math.isfinite(given) and given > 0)
    }
    sound = [record for record in records if record.run_id not in broken]
    known = {record.run_id: record.unique_tokens for record in sound if record.unique_tokens is not None}
    groups: dict[float | None, list[RunRecord]] = {}
    for record in sound:
        groups.setdefault(known.get(record.run_id), []).append(record)
    points = _thinned(
        loss_points([each for group in groups.values() for each in untuned_envelope(group).records], law=NAME)
    )
    unique = np.array([known.get(unit, math.inf) for unit in points.units])
    return Repeated(points=points, unique=np.minimum(unique, points.tokens), excluded=tuple(broken.values()))


def _thinned(points: LossPoints) -> LossPoints:
    """At most about MOST_POINTS, evenly spaced along each run, its end among them."""
    each = max(FEWEST_A_RUN, MOST_POINTS // points.runs)
    places: dict[str, list[int]] = {}
    for at, unit in enumerate(points.units):
        places.setdefault(unit, []).append(at)
    kept = [rows[at] for rows in places.values() for at in _spread(len(rows), each)]
    return points[np.array(kept)]


def _spread(count: int, most: int) -> list[int]:
    return sorted({int(place) for place in np.linspace(count - 1, 0, min(count, most)).round()})


class _Fit:
    """The free fit, and the one with alpha = beta."""

    def __init__(self, data: Repeated) -> None:
        self._data = data
        self._counts = Counts.centred(data.points.params, data.points.tokens, data.unique)
        self._scale = float(np.log(data.points.loss).mean())
        self.free = CurveFit(self._curve(), self._starts(shared=(0, 1)))

    def parameters(self, theta: Floats) -> dict[str, Floats]:
        """The parameters of each row of theta, by name."""
        e, a, b, alpha, beta, log_scale_d, log_scale_n = theta.T
        with np.errstate(over="ignore"):
            return {
                "E": np.exp(e + self._scale),
                "A": np.exp(a + self._scale + alpha * self._counts.params_centre),
                "B": np.exp(b + self._scale + beta * self._counts.tokens_centre),
                "alpha": alpha,
                "beta": beta,
                "R_D": np.exp(log_scale_d),
                "R_N": np.exp(log_scale_n),
            }

    def replicates(self, draws: int, seed: int) -> Fitted:
        """The free fit under other weights of the runs."""
        units = self._data.points.units
        if len(units) <= MOST_POLISHED:
            return self.free.refit(Samples.weighted(replicate_weights(units, draws, seed)))
        weights = replicate_weights(tuple(dict.fromkeys(units)), draws, seed)
        return one_step(self.free, unit_indices(units), weights)

    def tied(self) -> dict[str, float]:
        """The parameters with alpha = beta, as published, and that fit's objective."""
        curve = self._curve()
        tied = Curve(
            formula=lambda theta: curve.formula(theta[:, _UNTIE]),
            log_values=curve.log_values,
            lower=curve.lower[_TIE],
            upper=curve.upper[_TIE],
        )
        best = CurveFit(tied, self._starts(shared=(0, 0))[:, _TIE]).best
        values = {name: float(column[0]) for name, column in self.parameters(best.theta[:, _UNTIE]).items()}
        return values | {"objective": float(best.objective[0])}

    def _curve(self) -> RepeatedTokens:
        least, (low, high), scale = math.log(1e-8), EXPONENT_BOUNDS, np.log(SCALE_BOUNDS)
        return RepeatedTokens(
            formula=partial(log_loss, counts=self._counts),
            log_values=np.log(self._data.points.loss) - self._scale,
            lower=np.array([least] * 3 + [low] * 2 + [scale[0]] * 2),
            upper=np.array([-least] * 3 + [high] * 2 + [scale[1]] * 2),
            counts=self._counts,
        )

    def _starts(self, *, shared: tuple[int, int]) -> Floats:
        """For each R_D the best sum of powers in N and D', each with several R_N."""
        some = np.arange(0, len(self._data.unique), 1 + len(self._data.unique) // STARTING_POINTS)
        points, unique = self._data.points[some], self._data.unique[some]
        rows = []
        for scale_d in STARTS_D:
            worth = saturated(points.tokens, unique, scale_d)
            powers = SumOfPowers(quantities=np.stack([points.params, worth]), loss=points.loss, shared=shared)
            found = VariableProjection(powers).best
            (A, B), (alpha, beta) = found.coefficients[0], found.exponents[0]
            logs = np.log([max(found.offset[0], 1e-300), A, B]) - self._scale
            logs -= [0.0, alpha * self._counts.params_centre, beta * self._counts.tokens_centre]
            rows += [[*logs, alpha, beta, math.log(scale_d), math.log(scale_n)] for scale_n in STARTS_N]
        return np.array(rows)


def _estimates(
    values: Mapping[str, float], drawn: Mapping[str, Floats], *, confidence: float, runs: int
) -> dict[str, Estimate]:
    dof = float(max(runs - PARAMETERS, 1))
    found = {
        name: positive_interval(value, drawn[name], confidence=confidence, dof=dof) for name, value in values.items()
    }
    return found | {"E": offset_interval(values["E"], drawn["E"], confidence=confidence, dof=dof)}


def _weaknesses(best: Fitted, replicates: Fitted) -> list[str]:
    names = ("E", "A", "B", "alpha", "beta", "R_D", "R_N")
    at_bound = {
        f"{name} is at a bound": (best.at_bound[:, at], replicates.at_bound[:, at])
        for at, name in enumerate(names)
        if at > 2
    }
    absent = {
        f"{name} is zero": (best.theta[:, at] < math.log(ABSENT), replicates.theta[:, at] < math.log(ABSENT))
        for at, name in enumerate(names)
        if at < 3
    }
    return unidentified(absent | at_bound)
