"""How repeated tokens and excess parameters enter a loss law: saturating effective counts, with slopes.

Muennighoff et al. 2023 (arXiv:2305.16264), section 5: of D tokens U are unique, and each repetition is
worth less; of N parameters U_N, the compute-optimal number for U tokens, count fully.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.laws.curve_fit import Curve
from orchestrator.laws.loss_points import Parameters
from orchestrator.laws.result import Floats

MOST_EXPONENT = 700.0  # of e: beyond, a float overflows


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Centred natural logs of params, tokens and unique tokens (points,), and the centres of the first two."""

    params: Floats
    tokens: Floats
    unique: Floats
    params_centre: float
    tokens_centre: float

    @classmethod
    def centred(cls, params: Floats, tokens: Floats, unique: Floats) -> Counts:
        """From the counts themselves; unique tokens are no more than the tokens."""
        n, d = np.log(params), np.log(tokens)
        u = np.log(np.minimum(unique, tokens))
        return cls(
            params=n - n.mean(),
            tokens=d - d.mean(),
            unique=u - d.mean(),
            params_centre=float(n.mean()),
            tokens_centre=float(d.mean()),
        )


@dataclass(frozen=True, kw_only=True)
class _Saturated:
    """log of U (1 + R (1 - e^(-r / R))), r = X / U - 1 repetitions: its value and slopes in log U and log R."""

    value: Floats
    in_unique: Floats
    in_scale: Floats


def saturated(count: npt.ArrayLike, unique: npt.ArrayLike, scale: npt.ArrayLike) -> Floats:
    """What `count` is worth where only `unique` of it is new: unique (1 + R (1 - e^(-r/R))), r = count/unique - 1."""
    log_unique = np.log(np.minimum(unique, count))
    value: Floats = np.exp(_saturate(np.log(count), log_unique, np.asarray(scale, float)).value)
    return value


def optimal_params_for(parameters: Parameters, tokens: npt.ArrayLike) -> Floats:
    """U_N: the N for which these tokens are compute-optimal, (alpha A / (beta B))^(1/alpha) D^(beta/alpha)."""
    A, B, alpha, beta = (np.asarray(parameters[name], float) for name in ("A", "B", "alpha", "beta"))
    value: Floats = (alpha * A / (beta * B)) ** (1 / alpha) * np.asarray(tokens, float) ** (beta / alpha)
    return value


def _saturate(log_count: Floats, log_unique: Floats, scale: Floats) -> _Saturated:
    ratio = np.exp(np.clip(log_count - log_unique, 0.0, MOST_EXPONENT))
    repeats = (ratio - 1) / scale
    decayed = np.exp(-np.minimum(repeats, MOST_EXPONENT))
    worth = 1 + scale * (1 - decayed)
    new = log_count <= log_unique
    return _Saturated(
        value=np.where(new, log_count, log_unique + np.log(worth)),
        in_unique=np.where(new, 0.0, 1 - decayed * ratio / worth),
        in_scale=np.where(new, 0.0, scale * (1 - decayed * (1 + repeats)) / worth),
    )


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """A row's parts of the predicted loss and its effective centred log counts, each (rows, points)."""

    log_loss: Floats
    offset: Floats
    of_params: Floats
    of_tokens: Floats
    params: _Saturated
    tokens: _Saturated


@dataclass(frozen=True, kw_only=True)
class RepeatedTokens(Curve):
    """log(E + A / N'^alpha + B / D'^beta) of theta = (log E, log A, log B, alpha, beta, log R_D, log R_N).

    A and B are those of the centred counts. Slopes are exact: numerical ones would cost 14 evaluations.
    """

    counts: Counts

    def slopes(self, theta: Floats) -> Floats:
        """d(log prediction) / d(theta), (rows, 7, points)."""
        _, a, b, alpha, beta, _, _ = (theta[:, [at]] for at in range(7))
        parts = _parts(theta, self.counts)
        balance = np.log(alpha / beta) + a - b + beta * self.counts.unique
        by_unique = -parts.of_params * alpha * parts.params.in_unique
        return np.stack(
            [
                parts.offset,
                parts.of_params + by_unique / alpha,
                parts.of_tokens - by_unique / alpha,
                by_unique * (1 - balance) / alpha**2 - parts.of_params * parts.params.value,
                by_unique * (self.counts.unique - 1 / beta) / alpha - parts.of_tokens * parts.tokens.value,
                -parts.of_tokens * beta * parts.tokens.in_scale,
                -parts.of_params * alpha * parts.params.in_scale,
            ],
            axis=1,
        )


def log_loss(theta: Floats, counts: Counts) -> Floats:
    """The log predictions of each row of theta, (rows, points)."""
    return _parts(theta, counts).log_loss


def _parts(theta: Floats, counts: Counts) -> _Parts:
    e, a, b, alpha, beta, log_scale_d, log_scale_n = (theta[:, [at]] for at in range(7))
    tokens = _saturate(counts.tokens, counts.unique, np.exp(log_scale_d))
    best_params = (np.log(alpha / beta) + a - b + beta * counts.unique) / alpha
    params = _saturate(counts.params, best_params, np.exp(log_scale_n))
    logs = np.stack(np.broadcast_arrays(e, a - alpha * params.value, b - beta * tokens.value))
    total = np.logaddexp.reduce(logs, axis=0)
    offset, of_params, of_tokens = np.exp(logs - total)
    return _Parts(log_loss=total, offset=offset, of_params=of_params, of_tokens=of_tokens, params=params, tokens=tokens)
