"""Straight lines through optima in logarithms: weighted, with errors that cells share, terms by hold-out.

    log y = log coefficient + params_exponent log params + tokens_exponent log tokens + error

The error is the optimum's own (its covariance over cells is known) plus a scatter of the law's, half of
it common to a scale (a shape's luck), half the cell's own; its size is estimated by restricted
maximum likelihood. Cells of one scale that share runs are one exchangeable unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from orchestrator.laws.result import Floats
from orchestrator.laws.surface_form import Ints

Bools = npt.NDArray[np.bool_]

# Below this spread of log tokens at equal params (the standard deviation that a factor of 1.6 between
# two cells has), with any one scale left out, a tokens exponent is not told from a params exponent.
TOKENS_SPREAD = 0.23
# A line needs this many scales (or tokens counts) to be more than a connection of its points.
LEAST_POINTS = 3
SCALE_PART = 0.5  # of the law's own scatter that a scale's cells share: a guess
# A term stays unless the law without it predicts held-out cells better by this factor: a term that is
# dropped though it is real biases the others, and their intervals do not know.
HANDICAP = 1.1
CENSORED_ROUNDS = 8
# Scatters to choose from, in log units: up to a factor of 20.
SCATTERS = np.concatenate([[0.0], np.geomspace(0.01, 3.0, 24)])


@dataclass(frozen=True, kw_only=True)
class Optima:
    """One setting's optima, a row a cell: log params, log tokens, log value, covariance (n, n), scale.

    `edge` is 0 where the optimum is known, -1 where it is at most and +1 where it is at least `value`.
    `pooled_scales`: cells of a scale share runs, so scales are the units.
    """

    log_params: Floats
    log_tokens: Floats
    value: Floats
    covariance: Floats
    scale: Ints
    edge: Ints
    pooled_scales: bool

    @property
    def units(self) -> Ints:
        """The number of each cell's exchangeable unit."""
        return self.scale if self.pooled_scales else np.arange(self.value.size)


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """A fitted line: `terms` of ("params", "tokens"), coefficients (1 + terms), their covariance.

    `weights` (1 + terms, n) maps errors of the optima to errors of the coefficients. `predicted` (n,) is
    what the law without a cell's unit says of it; `held_out` the root mean square of its error at known
    optima, in log units.
    """

    terms: tuple[str, ...]
    coefficients: Floats
    covariance: Floats
    weights: Floats
    used: Ints
    scatter: float
    inflation: float
    dof: float
    predicted: Floats
    held_out: float


def identifiable_terms(data: Optima) -> tuple[str, ...]:
    """The exponents that the known optima can tell apart."""
    known = data.edge == 0
    scales = np.unique(data.scale[known])
    tokens = np.unique(np.round(data.log_tokens[known], 2))
    if scales.size < LEAST_POINTS:
        return ("tokens",) if tokens.size >= LEAST_POINTS else ()
    spreads = [_tokens_spread(data, known & (data.scale != left_out)) for left_out in scales]
    return ("params", "tokens") if min(spreads) >= TOKENS_SPREAD else ("params",)


def fit_power_law(data: Optima) -> PowerLaw | None:
    """The line with the smallest held-out error among the identifiable terms; None below three units.

    Edge optima enter as bounds: only where the line would contradict them, as a point at the bound.
    """
    identifiable = identifiable_terms(data)
    if np.unique(data.units[data.edge == 0]).size < LEAST_POINTS:
        return None
    choices = [identifiable, *((term,) for term in identifiable if len(identifiable) > 1), ()]
    fits = [_with_bounds(data, terms) for terms in dict.fromkeys(choices)]
    return min(fits, key=lambda fit: fit.held_out * (1 if fit is fits[0] else HANDICAP))


def _tokens_spread(data: Optima, rows: Bools) -> float:
    """Standard deviation of log tokens that log params do not explain."""
    if np.unique(data.scale[rows]).size < 2:
        return 0.0
    design = np.column_stack([np.ones(int(rows.sum())), data.log_params[rows]])
    tokens = data.log_tokens[rows]
    return float(np.std(tokens - design @ np.linalg.lstsq(design, tokens, rcond=None)[0]))


def _design(data: Optima, terms: tuple[str, ...]) -> Floats:
    columns = {"params": data.log_params, "tokens": data.log_tokens}
    return np.column_stack([np.ones(data.value.size), *(columns[term] for term in terms)])


def _with_bounds(data: Optima, terms: tuple[str, ...]) -> PowerLaw:
    """Censored regression (Tobit) by weighted least squares on working values of the bounds.

    A bound far beyond the line gets no weight; one that the line contradicts counts as a point there.
    """
    known = np.flatnonzero(data.edge == 0)
    fit = _fit(data, terms, known)
    if known.size == data.edge.size:
        return fit
    everything = np.arange(data.edge.size)
    for _ in range(CENSORED_ROUNDS):
        fit = _fit(_working(data, terms, fit), terms, everything)
    return fit


def _working(data: Optima, terms: tuple[str, ...], fit: PowerLaw) -> Optima:
    """The bounds replaced by working values with their variance, from the censored normal likelihood."""
    predicted = _design(data, terms) @ fit.coefficients
    spread = np.sqrt(np.diag(data.covariance) + fit.scatter**2 + 1e-12)
    side = np.where(data.edge == 0, 1, data.edge)
    place = np.clip(-side * (data.value - predicted) / spread, -30, 8)  # how far the line is beyond the bound
    hazard = np.exp(stats.norm.logpdf(place) - stats.norm.logcdf(place))
    information = np.clip(hazard * (hazard + place), 1e-8, 1)
    value = predicted + side * spread * hazard / information
    extra = np.where(data.edge == 0, 0.0, spread**2 * (1 / information - 1))
    return replace(
        data,
        value=np.where(data.edge == 0, data.value, value),
        covariance=data.covariance + np.diag(extra),
    )


def _fit(data: Optima, terms: tuple[str, ...], used: Ints) -> PowerLaw:
    centre = np.concatenate([[0.0], _design(data, terms)[used, 1:].mean(axis=0)])
    centred: Floats = _design(data, terms)[used] - centre
    value: Floats = np.asarray(data.value[used])
    scatter = _scatter(data, centred, used)
    inverse: Floats = np.asarray(np.linalg.inv(_error_covariance(data, used, np.asarray(scatter))))
    information = np.linalg.inv(centred.T @ inverse @ centred)
    weights = information @ centred.T @ inverse
    coefficients = weights @ value
    residual = value - centred @ coefficients
    known = data.edge[used] == 0
    predicted = _predicted(centred, value, inverse, data.units[used])
    free = max(int(known.sum()) - centred.shape[1], 1)
    inflation = max(1.0, float(residual @ inverse @ residual) / free)
    back = np.eye(centred.shape[1])
    back[0, 1:] = -centre[1:]
    return PowerLaw(
        terms=terms,
        coefficients=back @ coefficients,
        covariance=inflation * back @ information @ back.T,
        weights=back @ weights,
        used=used,
        scatter=scatter,
        inflation=inflation,
        dof=_degrees(data, terms, used),
        predicted=predicted,
        held_out=_held_out(predicted - value, np.where(known, data.units[used], -1)),
    )


def _error_covariance(data: Optima, used: Ints, scatter: Floats | float) -> Floats:
    """Covariance (..., n, n) of the used optima around the line, for scatters (...)."""
    same = data.scale[used][:, None] == data.scale[used][None, :]
    own = SCALE_PART * same + (1 - SCALE_PART) * np.eye(used.size)
    known = data.covariance[np.ix_(used, used)] + 1e-12 * np.eye(used.size)
    return np.asarray(known + np.square(scatter)[..., None, None] * own)


def _scatter(data: Optima, centred: Floats, used: Ints) -> float:
    """The law's own standard deviation in log units, by restricted maximum likelihood over SCATTERS."""
    value = data.value[used]
    covariance = _error_covariance(data, used, SCATTERS)
    inverse = np.linalg.inv(covariance)
    information = centred.T @ inverse @ centred
    solution = np.linalg.solve(information, (centred.T @ inverse @ value)[..., None])[..., 0]
    residual = value - solution @ centred.T
    misfit = np.einsum("si,sij,sj->s", residual, inverse, residual)
    cost = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1] + misfit
    return float(SCATTERS[np.argmin(cost)])


def _degrees(data: Optima, terms: tuple[str, ...], used: Ints) -> float:
    units = np.unique(data.units[used]).size
    between = 1 + len(terms) if not data.pooled_scales else 1 + ("params" in terms)
    return float(max(units - between, 1))


def _predicted(centred: Floats, value: Floats, inverse: Floats, units: Ints) -> Floats:
    """Each unit's values from a fit to the others, (n,)."""
    predicted = np.empty(value.size)
    for unit in np.unique(units):
        rest = units != unit
        design, weight = centred[rest], inverse[np.ix_(rest, rest)]
        information = design.T @ weight @ design
        solution = np.linalg.lstsq(information, design.T @ weight @ value[rest], rcond=None)[0]
        predicted[~rest] = centred[~rest] @ solution
    return predicted


def _held_out(error: Floats, units: Ints) -> float:
    """Root mean square over units of their errors; bounds have no unit (-1)."""
    squares = [float(np.mean(error[units == unit] ** 2)) for unit in np.unique(units[units >= 0])]
    return math.sqrt(float(np.mean(squares)))
