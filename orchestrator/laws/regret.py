"""What the uncertainty could cost: the regret of predicted settings where the true optimum lies elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.laws import chinchilla, frontier
from orchestrator.laws.coordinates import SETTINGS
from orchestrator.laws.loss_points import FLOPS_PER_PARAM_TOKEN
from orchestrator.laws.predicted_settings import SettingDraws
from orchestrator.laws.result import FittedLaw, Floats, Status
from orchestrator.laws.surface_form import warp

# No settings cost more log loss than this: a run that learns nothing has some three times the best loss. A guess.
MOST_EXCESS = 1.0
# Compute is not followed below this part of the target's, e^-60, in so many halvings of the interval.
LEAST_LOG_PART, HALVINGS = -60.0, 45


@dataclass(frozen=True, kw_only=True)
class Regret:
    """Relative loss above the best, expected and not exceeded at the confidence of the laws.

    `compute` is the part of the target's compute that is lost with it: the best settings reach the same
    loss with 1 - compute of it. None where no law of the loss says that.
    """

    loss: float
    loss_high: float
    compute: float | None = None
    compute_high: float | None = None


def settings_regret(
    law: FittedLaw, found: Mapping[str, SettingDraws], laws: Mapping[str, FittedLaw], params: float, tokens: float
) -> tuple[Regret | None, tuple[str, ...]]:
    """The regret of the point settings over the draws of a single cell's optimum; and the settings it leaves out.

    By the pooled curvature and skew of log loss (table `curvature`), which are those of the measured
    cells. A setting with a curvature and no law of its optimum is left out. None without a curvature.
    """
    table = next((rows for each in (law, *laws.values()) if (rows := each.tables.get("curvature"))), ())
    offsets = _offsets(found)
    names = [str(row["setting"]) for row in table if row["setting"] in offsets]
    left_out = tuple(str(row["setting"]) for row in table if row["setting"] not in offsets)
    if not names:
        return None, left_out
    kept = [row for row in table if row["setting"] in offsets]
    excess = _excess(kept, names, np.stack([offsets[name] for name in names], axis=-1))
    return _regret(excess, laws, params, tokens, law.confidence), left_out


def size_regret(
    best: Floats, laws: Mapping[str, FittedLaw], params: float, tokens: float, confidence: float
) -> Regret | None:
    """The regret of training `params` for `tokens` over `best` (draws,), the compute-optimal params of that compute.

    By the shape of the loss along one compute in the law `chinchilla`; None where that failed.
    """
    law = laws.get(chinchilla.NAME)
    if law is None or law.status is Status.FAILED or best.size < 2:
        return None
    parameters = _values(law)
    flops = FLOPS_PER_PARAM_TOKEN * params * tokens
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        centre = chinchilla.optimal_params(parameters, flops)
        sizes = centre * np.exp(np.clip(math.log(params) - np.log(best), -50, 50))
        losses = chinchilla.loss(parameters, sizes, flops / (FLOPS_PER_PARAM_TOKEN * sizes))
        lowest = chinchilla.loss(parameters, centre, flops / (FLOPS_PER_PARAM_TOKEN * centre))
        return _regret(np.log(losses / lowest), laws, params, tokens, confidence)


def compute_lost(laws: Mapping[str, FittedLaw], excess: Floats, params: float, tokens: float) -> Floats | None:
    """The part of the compute, 0 to 1, that a log loss `excess` above the best (draws,) is worth; None if unknown.

    Along one tokens_per_param by `chinchilla`, else along the frontier.
    """
    law = laws.get(chinchilla.NAME)
    if law is not None and law.status is not Status.FAILED:
        parameters = _values(law)
        wanted = np.log(chinchilla.loss(parameters, params, tokens)) + excess

        def log_loss(log_part: Floats) -> Floats:
            root = np.exp(log_part / 2)
            return np.asarray(np.log(chinchilla.loss(parameters, params * root, tokens * root)))

        return -np.expm1(_solved(log_loss, wanted))
    law = laws.get(frontier.NAME)
    if law is None or law.status is Status.FAILED:
        return None
    known, flops = _values(law), FLOPS_PER_PARAM_TOKEN * params * tokens
    wanted = np.log(frontier.loss(known, flops)) + excess
    return -np.expm1(_solved(lambda part: np.log(frontier.loss(known, flops * np.exp(part))), wanted))


def _solved(log_loss: Callable[[Floats], Floats], wanted: Floats) -> Floats:
    """The logarithms of the parts of the compute at which a falling log loss is as wanted, by bisection."""
    low, high = np.full(wanted.shape, LEAST_LOG_PART), np.zeros(wanted.shape)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        too_low = log_loss(middle) > wanted
        low, high = np.where(too_low, middle, low), np.where(too_low, high, middle)
    return np.asarray((low + high) / 2)


def _offsets(found: Mapping[str, SettingDraws]) -> dict[str, Floats]:
    """Log distance of the point settings from the optimum in each draw; of the half-life in steps for beta2."""
    logs = {name: np.log(each.value) - np.log(each.single) for name, each in found.items() if each.single.size > 1}
    offsets: dict[str, Floats] = {name: found for name, found in logs.items() if name in SETTINGS}
    if "beta2_half_life" in logs:
        offsets["beta2"] = logs["beta2_half_life"] - logs.get("batch_tokens", 0.0)
    elif "one_minus_beta2" in found:
        rest = found["one_minus_beta2"]
        steps = [-math.log(2) / np.log1p(-np.clip(x, 1e-12, 1 - 1e-12)) for x in (rest.value, rest.single)]
        offsets["beta2"] = np.asarray(np.log(steps[0]) - np.log(steps[1]))
    return offsets


def _excess(rows: Sequence[Mapping[str, Any]], names: Sequence[str], offsets: Floats) -> Floats:
    """Log loss above the optimum, (draws,), of offsets (draws, settings)."""
    curvature = np.array([[float(row[name]) for name in names] for row in rows])
    warped = np.stack([warp(offsets[:, place], float(row["skew"])) for place, row in enumerate(rows)], axis=-1)
    return np.asarray(np.minimum(0.5 * np.einsum("di,ij,dj->d", warped, curvature, warped), MOST_EXCESS))


def _regret(
    excess: Floats, laws: Mapping[str, FittedLaw], params: float, tokens: float, confidence: float
) -> Regret | None:
    finite = np.clip(excess[np.isfinite(excess)], 0.0, MOST_EXCESS)
    if finite.size < 2:
        return None
    loss, lost = np.expm1(finite), compute_lost(laws, finite, params, tokens)
    return Regret(
        loss=float(loss.mean()),
        loss_high=float(np.quantile(loss, confidence)),
        compute=None if lost is None else float(lost.mean()),
        compute_high=None if lost is None else float(np.quantile(lost, confidence)),
    )


def _values(law: FittedLaw) -> dict[str, float]:
    return {name: estimate.value for name, estimate in law.parameters.items()}
