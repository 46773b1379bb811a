"""What follows from Kaplan's laws: the best use of compute, the cost of a wrong size, overfitting.

Kaplan et al. 2020 (arXiv:2001.08361), sections 4 to 6 and appendix B. Functions take parameters by name,
as numbers or arrays of draws. Those of compute need L(N, S) (alpha_N, N_c, alpha_S, S_c, of `kaplan-ns`)
and B_crit(L) = B_star / L^(1/alpha_B) (of `critical-batch`); those of overfitting L(N, D) (alpha_N, N_c,
alpha_D, D_c, of `kaplan-nd`). N leaves out embeddings, compute is 6 N tokens in FLOP, steps are S_min
(batch far above the critical one), compute is C_min (batch far below): training at the critical batch
takes twice of both. The constants of different laws belong together only where one table gave them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.laws.loss_points import FLOPS_PER_PARAM_TOKEN, Parameters
from orchestrator.laws.result import Floats


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """One way to reach a loss against another: ratios of params, of steps and of compute."""

    params: Floats
    steps: Floats
    flops: Floats


def compute_exponent(parameters: Parameters) -> Floats:
    """alpha_C_min = 1 / (1/alpha_S + 1/alpha_B + 1/alpha_N), equation 6.4."""
    alpha_N, alpha_S, alpha_B = _read(parameters, "alpha_N", "alpha_S", "alpha_B")
    value: Floats = 1 / (1 / alpha_S + 1 / alpha_B + 1 / alpha_N)
    return value


def compute_constant(parameters: Parameters) -> Floats:
    """C_c_min in FLOP, so that the lowest loss is (C_c_min / C_min)^alpha_C_min; equation B.8."""
    alpha_N, alpha_S, N_c, S_c, B_star = _read(parameters, "alpha_N", "alpha_S", "N_c", "S_c", "B_star")
    above = (1 + alpha_N / alpha_S) ** (1 / alpha_S + 1 / alpha_N)
    value: Floats = FLOPS_PER_PARAM_TOKEN * N_c * B_star * S_c * above * (alpha_S / alpha_N) ** (1 / alpha_S)
    return value


def optimal_loss(parameters: Parameters, least_flops: npt.ArrayLike) -> Floats:
    """The lowest loss in nats per token at this C_min in FLOP."""
    value: Floats = _relative(parameters, least_flops) ** -compute_exponent(parameters)
    return value


def optimal_params(parameters: Parameters, least_flops: npt.ArrayLike) -> Floats:
    """N(C_min) = N_c (C_min / C_c_min)^(alpha_C_min / alpha_N) (1 + alpha_N / alpha_S)^(1 / alpha_N)."""
    alpha_N, alpha_S, N_c = _read(parameters, "alpha_N", "alpha_S", "N_c")
    grown = _relative(parameters, least_flops) ** (compute_exponent(parameters) / alpha_N)
    value: Floats = N_c * grown * (1 + alpha_N / alpha_S) ** (1 / alpha_N)
    return value


def optimal_steps(parameters: Parameters, least_flops: npt.ArrayLike) -> Floats:
    """S_min at the optimal size; at the critical batch twice as many are taken."""
    alpha_N, alpha_S, N_c, B_star = _read(parameters, "alpha_N", "alpha_S", "N_c", "B_star")
    start = compute_constant(parameters) / (FLOPS_PER_PARAM_TOKEN * N_c * B_star)
    grown = _relative(parameters, least_flops) ** (compute_exponent(parameters) / alpha_S)
    value: Floats = start * (1 + alpha_N / alpha_S) ** (-1 / alpha_N) * grown
    return value


def optimal_batch_tokens(parameters: Parameters, least_flops: npt.ArrayLike) -> Floats:
    """The critical batch, in tokens, at the lowest loss."""
    alpha_B, B_star = _read(parameters, "alpha_B", "B_star")
    value: Floats = B_star * optimal_loss(parameters, least_flops) ** (-1 / alpha_B)
    return value


def optimal_tokens(parameters: Parameters, least_flops: npt.ArrayLike) -> Floats:
    """D = 2 C_min / (6 N), equation 6.7: the tokens that training at the critical batch takes."""
    params = optimal_params(parameters, least_flops)
    value: Floats = 2 * np.asarray(least_flops, float) / (FLOPS_PER_PARAM_TOKEN * params)
    return value


def efficient_stop_loss(parameters: Parameters, params: npt.ArrayLike) -> Floats:
    """The loss at which a size is to be stopped: 1 + alpha_N / alpha_S times its converged loss; equation B.7."""
    alpha_N, alpha_S, N_c = _read(parameters, "alpha_N", "alpha_S", "N_c")
    value: Floats = (1 + alpha_N / alpha_S) * (N_c / np.asarray(params, float)) ** alpha_N
    return value


def flops_to_reach(parameters: Parameters, params: npt.ArrayLike, loss: npt.ArrayLike) -> Floats:
    """C_min in FLOP at which this size reaches this loss; infinite where it never does. Equation B.11."""
    alpha_N, alpha_S, alpha_B = _read(parameters, "alpha_N", "alpha_S", "alpha_B")
    N_c, S_c, B_star = _read(parameters, "N_c", "S_c", "B_star")
    size, level = np.asarray(params, float), np.asarray(loss, float)
    left = level - (N_c / size) ** alpha_N
    per_step = FLOPS_PER_PARAM_TOKEN * B_star * S_c * size * level ** (-1 / alpha_B)
    value: Floats = per_step * _inverse_power(left, alpha_S)
    return value


def wrong_size(parameters: Parameters, factor: npt.ArrayLike) -> Ratios:
    """The cost of a model `factor` times the optimal size, to the same loss; infinite where it never gets there.

    Equation B.16, with alpha_N and alpha_S alone; steps are S_min.
    """
    alpha_N, alpha_S = _read(parameters, "alpha_N", "alpha_S")
    size = np.asarray(factor, float)
    steps = _inverse_power(1 + alpha_S / alpha_N * (1 - size**-alpha_N), alpha_S)
    return Ratios(params=size, steps=steps, flops=size * steps)


def against_convergence(parameters: Parameters, above: float) -> Ratios:
    """Efficient training against training to `above` (0.02: 2 %) over the converged loss; equations B.12 to B.14."""
    alpha_N, alpha_S = _read(parameters, "alpha_N", "alpha_S")
    efficient = alpha_N / alpha_S
    params = ((1 + efficient) / (1 + above)) ** (1 / alpha_N)
    steps = ((1 + 1 / efficient) / (1 + 1 / above)) ** (1 / alpha_S)
    return Ratios(params=params, steps=steps, flops=params * steps)


def overfitting(parameters: Parameters, params: npt.ArrayLike, tokens: npt.ArrayLike) -> Floats:
    """L(N, D) / L(N, infinity) - 1, equation 4.3; `tokens` is the size of the dataset."""
    alpha_D, D_c = _read(parameters, "alpha_D", "D_c")
    value: Floats = np.expm1(alpha_D * np.log1p(D_c / (np.asarray(tokens, float) * _bracket(parameters, params))))
    return value


def tokens_against_overfitting(parameters: Parameters, params: npt.ArrayLike, most: npt.ArrayLike) -> Floats:
    """The dataset in tokens with which `overfitting` stays at `most` (Kaplan: 0.02); equation 4.4."""
    alpha_D, D_c = _read(parameters, "alpha_D", "D_c")
    allowed = np.expm1(np.log1p(np.asarray(most, float)) / alpha_D)
    value: Floats = D_c / (_bracket(parameters, params) * allowed)
    return value


def least_steps_before_stop(parameters: Parameters, params: npt.ArrayLike, tokens: npt.ArrayLike) -> Floats:
    """S_c / (L(N, D) - L(N, infinity))^(1/alpha_S), equation 5.7: the early stop comes no sooner, in steps S_min.

    Needs alpha_S and S_c beside the parameters of L(N, D).
    """
    alpha_N, N_c, alpha_S, S_c = _read(parameters, "alpha_N", "N_c", "alpha_S", "S_c")
    converged = (N_c / np.asarray(params, float)) ** alpha_N
    value: Floats = S_c * _inverse_power(converged * overfitting(parameters, params, tokens), alpha_S)
    return value


def _read(parameters: Parameters, *names: str) -> tuple[Floats, ...]:
    return tuple(np.asarray(parameters[name], float) for name in names)


def _relative(parameters: Parameters, least_flops: npt.ArrayLike) -> Floats:
    value: Floats = np.asarray(least_flops, float) / compute_constant(parameters)
    return value


def _bracket(parameters: Parameters, params: npt.ArrayLike) -> Floats:
    """(N_c / N)^(alpha_N / alpha_D)."""
    alpha_N, alpha_D, N_c = _read(parameters, "alpha_N", "alpha_D", "N_c")
    value: Floats = (N_c / np.asarray(params, float)) ** (alpha_N / alpha_D)
    return value


def _inverse_power(left: Floats, alpha: Floats) -> Floats:
    """left^(-1/alpha), infinite where nothing is left."""
    some = left > 0
    value: Floats = np.where(some, np.where(some, left, 1.0) ** (-1 / alpha), np.inf)
    return value
