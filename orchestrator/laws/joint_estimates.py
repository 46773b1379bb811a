"""From the jackknife of the joint law to named parameters with intervals and joint draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from orchestrator.laws.jackknife import jackknife_covariance, jackknife_draws
from orchestrator.laws.joint_fit import JointData, JointFit
from orchestrator.laws.joint_form import LOSS_PARAMETERS
from orchestrator.laws.result import Estimate, Floats

# What the law of each setting of the surface gives.
QUANTITIES: Mapping[str, str] = {
    "learning_rate": "learning_rate",
    "batch_tokens": "batch_tokens",
    "beta2": "beta2_half_life",
}
LOSS_NAMES = ("E", "A", "B", "alpha", "beta")


@dataclass(frozen=True, kw_only=True)
class Named:
    """Parameters by name: their logarithms where `positive`, with errors (p,) and draws (draws, p)."""

    names: Sequence[str]
    positive: Sequence[bool]
    value: Floats
    error: Floats
    draws: Floats
    quantile: float

    def estimates(self) -> dict[str, Estimate]:
        """Each with its interval; standard errors in the parameter's own unit."""
        return {name: self._estimate(at) for at, name in enumerate(self.names)}

    def samples(self) -> dict[str, Floats]:
        """Each one's draws."""
        return {
            name: np.exp(np.clip(column, -700, 700)) if positive else column
            for name, positive, column in zip(self.names, self.positive, self.draws.T, strict=True)
        }

    def _estimate(self, at: int) -> Estimate:
        value, error = float(self.value[at]), float(self.error[at])
        ends = np.array([value - self.quantile * error, value, value + self.quantile * error])
        if self.positive[at]:
            ends = np.exp(np.clip(ends, -700, 700))
            error *= float(ends[1])
        return Estimate(low=float(ends[0]), value=float(ends[1]), high=float(ends[2]), stderr=error)


def name_parameters(
    data: JointData, fit: JointFit, without: Floats, *, confidence: float, draws: int, seed: int
) -> tuple[Named, ...]:
    """The laws' parameters, and the loss law's where m is one.

    `without` (units, shared parameters) are the fits that each lack one unit. Their spread is the
    delete-one jackknife's variance; Student's t has as many degrees of freedom as there are units more
    than coefficients of the longest law.
    """
    units = len(without)
    dof = float(max(units - 1 - max(len(terms) for terms in fit.form.terms), 1))
    covariance = jackknife_covariance(without)
    scattered = jackknife_draws(fit.shared, without, dof=dof, draws=draws, seed=seed)
    quantile = float(stats.t.ppf((1 + confidence) / 2, dof))

    def named(names: Sequence[str], positive: Sequence[bool], rows: Floats) -> Named:
        return Named(
            names=names,
            positive=positive,
            value=rows @ fit.shared,
            error=np.sqrt(np.clip(np.diag(rows @ covariance @ rows.T), 0.0, None)),
            draws=scattered @ rows.T,
            quantile=quantile,
        )

    first = LOSS_PARAMETERS if fit.form.parametric else 0
    found = [named(LOSS_NAMES, (True,) * 3 + (False,) * 2, _loss_rows(data, fit))] if first else []
    for setting, terms, part in zip(data.settings, fit.form.terms, fit.tie.laws, strict=True):
        rows = np.zeros((1 + len(terms), fit.shared.size))
        rows[:, first + part.start : first + part.stop] = np.eye(1 + len(terms))
        rows[0, first + part.start + 1 : first + part.stop] = [-_middle(data)[term] for term in terms]
        names = [f"{QUANTITIES[setting]}.{term}" for term in ("coefficient", *(f"{each}_exponent" for each in terms))]
        found.append(named(names, [True, *(False for _ in terms)], rows))
    return tuple(found)


def _middle(data: JointData) -> dict[str, float]:
    return dict(zip(("params", "tokens"), data.sizes.middle, strict=True))


def _loss_rows(data: JointData, fit: JointFit) -> Floats:
    """Log E, log A, log B, alpha, beta from what the tie has on centred logs.

    log A = a + alpha * middle, since A / N^alpha = exp(a - alpha (log N - middle)).
    """
    rows = np.zeros((LOSS_PARAMETERS, fit.shared.size))
    rows[:, :LOSS_PARAMETERS] = np.eye(LOSS_PARAMETERS)
    rows[1, 3], rows[2, 4] = data.sizes.middle
    return rows
