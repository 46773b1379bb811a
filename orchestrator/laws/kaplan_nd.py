"""The law `kaplan-nd`: the loss L(N, D) of a size on a finite dataset.

Kaplan et al. 2020 (arXiv:2001.08361), equation 1.5:
[(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D. N leaves out embeddings where the runs say so, else
it is what `params` counts; D is tokens, or the size of the dataset where data are repeated (then each
size has one point a dataset, the early stop). Huber's loss (1e-3) on log loss, summed. At most
MAX_POINTS points enter, spread over all runs. Intervals: Student's t with the covariance of fits
to reweighted runs (Rubin's Bayesian bootstrap).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.laws.clustered_regression import misfit
from orchestrator.laws.curve_fit import Curve, CurveFit, Fitted
from orchestrator.laws.kaplan_points import dataset_points
from orchestrator.laws.kaplan_power import LARGEST_LOG
from orchestrator.laws.loss_points import (
    LossPoints,
    Parameters,
    need,
    positive_interval,
    replicate_weights,
    too_few_scales,
    too_wide,
    unidentified,
)
from orchestrator.laws.newton import Samples
from orchestrator.laws.records import RunRecord
from orchestrator.laws.resample import unit_indices
from orchestrator.laws.result import FittedLaw, Floats, Status
from orchestrator.laws.selection import cluster_numbers
from orchestrator.laws.varpro import EXPONENT_BOUNDS

NAME = "kaplan-nd"
FORM = "[(N_c / params)^(alpha_N / alpha_D) + D_c / tokens]^alpha_D"
COLUMNS = ("params", "tokens", "loss")
PARAMETERS = 4
BETWEEN_RUNS = 2  # of them what differences between curves determine, alpha_N and N_c
# Points of one run say little more than its last: so many determine four parameters. A guess.
MAX_POINTS = 1500
# Replicates that the covariance of the parameters comes from: it is then known to 5 %.
REFITS = 200
GOLDEN_RATIO = (1 + 5**0.5) / 2  # its multiples fill the unit interval evenly
# How far log loss at the middle of the points may be from their mean. A guess, never reached by a fit.
WIDEST_LEVEL = 3.0
# How much larger one of the two terms may be than the other at the middle of the points, as a logarithm.
LARGEST_BALANCE = 12.0
# Starts: exponents, and how much of the bracket the size's term is at the middle of the points.
EXPONENT_STARTS = np.geomspace(0.02, 1.5, 9)
BALANCE_STARTS = np.linspace(-6.0, 6.0, 7)


def loss(parameters: Parameters, params: npt.ArrayLike, tokens: npt.ArrayLike) -> Floats:
    """Loss in nats per token; all arguments broadcast."""
    alpha_N, alpha_D, N_c, D_c = (np.asarray(parameters[name], float) for name in ("alpha_N", "alpha_D", "N_c", "D_c"))
    of_size = alpha_N / alpha_D * (np.log(N_c) - np.log(np.asarray(params, float)))
    value: Floats = np.exp(alpha_D * np.logaddexp(of_size, np.log(D_c) - np.log(np.asarray(tokens, float))))
    return value


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law. Raises FitError below 3 sizes, 3 token counts, 3 runs or 6 points.

    Tables: `points`, what it was fitted to; `goodness`, one row with the points, the runs and the root mean
    square of the log residuals.
    """
    counted = dataset_points(records, law=NAME)
    points = _thinned(counted.points)
    horizons = int(cluster_numbers(points.tokens.tolist()).max()) + 1
    need(NAME, {"sizes": (_sizes(points), 3), "token counts": (horizons, 3), "points": (len(points.loss), 6)})
    need(NAME, {"runs": (points.runs, 3)})
    centred = _Centred(points)
    fitted = CurveFit(centred.curve, centred.starts())
    refits = fitted.refit(Samples.weighted(replicate_weights(points.units, REFITS, seed)))
    theta = _student_draws(points, fitted.best.theta[0], refits.theta, draws, seed)
    drawn = centred.parameters(np.clip(theta, centred.curve.lower, centred.curve.upper))
    values = {name: float(column[0]) for name, column in centred.parameters(fitted.best.theta).items()}
    estimates = {
        name: positive_interval(value, drawn[name], confidence=confidence, dof=None) for name, value in values.items()
    }
    reasons = too_few_scales(_sizes(points)) + _at_bounds(fitted.best, refits)
    reasons += too_wide({name: estimates[name] for name in ("alpha_N", "alpha_D")})
    reasons += centred.misfit(fitted.best.theta, points.units)
    return FittedLaw(
        name=NAME,
        form=f"{FORM}, {counted.counted}",
        parameters=estimates,
        draws=drawn,
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid=points.valid,
        runs_used=points.runs,
        runs_excluded=points.excluded,
        objective=float(fitted.best.objective[0]),
        tables={"points": _rows(points), "goodness": [_goodness(counted.points, points, values)]},
    )


@dataclass(frozen=True, kw_only=True)
class _Bracket(Curve):
    """The curve with its exact slopes, in parameters of size one: level, balance and both exponents.

    With x, y the centred logs of N and D: log L = level + alpha_D log(p e^(-alpha_N/alpha_D x) + (1 - p) e^-y),
    p = 1 / (1 + e^-balance): log loss at the middle, and how much of the bracket the size's term is there.
    """

    x: Floats
    y: Floats

    def slopes(self, theta: Floats) -> Floats:
        """d(log prediction) / d(theta), (rows, 4, points)."""
        balance, alpha_N, alpha_D = (column[:, None] for column in theta.T[1:])
        of_size, of_data = _terms(theta, self.x, self.y)
        bracket = np.logaddexp(of_size, of_data)
        share = np.exp(of_size - bracket)
        slope = np.empty((len(theta), PARAMETERS, len(self.x)))
        slope[:, 0] = 1.0
        slope[:, 1] = alpha_D * (share - 1 / (1 + np.exp(-balance)))
        slope[:, 2] = -share * self.x
        slope[:, 3] = bracket + share * alpha_N / alpha_D * self.x
        return slope


def _terms(theta: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Logs of the bracket's two terms, (rows, points)."""
    balance, alpha_N, alpha_D = (column[:, None] for column in theta.T[1:])
    return -np.logaddexp(0.0, -balance) - alpha_N / alpha_D * x, -np.logaddexp(0.0, balance) - y


def _log_loss(theta: Floats, x: Floats, y: Floats) -> Floats:
    predicted: Floats = theta[:, :1] + theta[:, 3:] * np.logaddexp(*_terms(theta, x, y))
    return predicted


class _Centred:
    """The points around their middle: the curve to fit, its starts, and the way back to Kaplan's parameters."""

    def __init__(self, points: LossPoints) -> None:
        logs = np.log(points.params), np.log(points.tokens)
        self._middle = float(logs[0].mean()), float(logs[1].mean())
        x, y = logs[0] - self._middle[0], logs[1] - self._middle[1]
        self._level = float(np.log(points.loss).mean())
        low, high = EXPONENT_BOUNDS
        self.curve = _Bracket(
            x=x,
            y=y,
            formula=lambda theta: _log_loss(theta, x, y),
            log_values=np.log(points.loss),
            lower=np.array([self._level - WIDEST_LEVEL, -LARGEST_BALANCE, low, low]),
            upper=np.array([self._level + WIDEST_LEVEL, LARGEST_BALANCE, high, high]),
        )

    def starts(self) -> Floats:
        """A grid over exponents and balance, each with the level that the points ask for."""
        axes = np.meshgrid([self._level], BALANCE_STARTS, EXPONENT_STARTS, EXPONENT_STARTS, indexing="ij")
        theta = np.stack([axis.ravel() for axis in axes], axis=1)
        theta[:, 0] += (self.curve.log_values - self.curve.formula(theta)).mean(axis=1)
        return theta

    def misfit(self, theta: Floats, units: Sequence[str]) -> list[str]:
        """A reason where squares and the product of log N and log D explain what the law, one row, leaves."""
        curve = self.curve
        residuals = curve.log_values - curve.formula(theta)[0]
        squares = np.stack([curve.x**2, curve.x * curve.y, curve.y**2], axis=1)
        found = misfit(curve.slopes(theta)[0].T, squares, residuals, units)
        if found is None or not found.matters:
            return []
        return [f"the points depart from this form by {found.size:.1%} of the loss: another law may fit them"]

    def parameters(self, theta: Floats) -> dict[str, Floats]:
        """Kaplan's parameters of rows of theta."""
        level, balance, alpha_N, alpha_D = theta.T
        of_size = level / alpha_D - np.logaddexp(0.0, -balance)
        of_data = level / alpha_D - np.logaddexp(0.0, balance)
        log_N = np.clip(self._middle[0] + alpha_D / alpha_N * of_size, -LARGEST_LOG, LARGEST_LOG)
        log_D = np.clip(self._middle[1] + of_data, -LARGEST_LOG, LARGEST_LOG)
        return {"alpha_N": alpha_N, "alpha_D": alpha_D, "N_c": np.exp(log_N), "D_c": np.exp(log_D)}


def _thinned(points: LossPoints) -> LossPoints:
    """At most MAX_POINTS, or one a run. Equally many of each run, at places that differ from run to run."""
    if len(points.loss) <= MAX_POINTS:
        return points
    each = max(MAX_POINTS // points.runs, 1)
    unit = unit_indices(points.units)
    runs = np.split(np.argsort(unit, kind="stable"), np.cumsum(np.bincount(unit))[:-1])
    kept = []
    for number, rows in enumerate(runs):
        places = (number * GOLDEN_RATIO % 1 + np.arange(each)) / each
        kept.append(rows[np.unique((places * len(rows)).astype(int))])
    return points[np.concatenate(kept)]


def _sizes(points: LossPoints) -> int:
    return int(cluster_numbers(points.params.tolist()).max()) + 1


def _student_draws(points: LossPoints, best: Floats, refits: Floats, draws: int, seed: int) -> Floats:
    """Draws (draws, p) of Student's t around `best` (p,) with the covariance of `refits` (replicates, p).

    Differences between curves determine few of the parameters, and from few runs.
    """
    between = BETWEEN_RUNS if points.runs < len(points.loss) else PARAMETERS
    dof = float(max(points.runs - between, 1))
    moves = (refits - refits.mean(axis=0)) / np.sqrt(len(refits) - 1)
    rng = np.random.default_rng(seed)
    spread = np.sqrt(dof / rng.chisquare(dof, size=(draws, 1)))
    drawn: Floats = best + spread * (rng.standard_normal((draws, len(refits))) @ moves)
    return drawn


def _at_bounds(best: Fitted, refits: Fitted) -> list[str]:
    what = {1: "one of the two terms is absent", 2: "alpha_N is at a bound", 3: "alpha_D is at a bound"}
    return unidentified({text: (best.at_bound[:, at], refits.at_bound[:, at]) for at, text in what.items()})


def _rows(points: LossPoints) -> list[dict[str, float]]:
    columns = {"params": points.params, "tokens": points.tokens, "loss": points.loss}
    return [{name: float(column[at]) for name, column in columns.items()} for at in range(len(points.loss))]


def _goodness(given: LossPoints, used: LossPoints, values: dict[str, float]) -> dict[str, Any]:
    residuals = np.log(used.loss / loss(values, used.params, used.tokens))
    return {
        "points_given": len(given.loss),
        "points_used": len(used.loss),
        "runs": used.runs,
        "rms_log_residual": float(np.sqrt((residuals**2).mean())),
    }
