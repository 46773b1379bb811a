"""The law `critical-batch`: steps against tokens to a loss, B_crit(L) = E_min / S_min.

    (S/S_min - 1) (E/E_min - 1) = 1,  B_crit(L) = B_star / L^(1/alpha_B) tokens

McCandlish et al. 2018 (arXiv:1812.06162) and Kaplan et al. 2020 (arXiv:2001.08361), section 5.1;
B_crit is the same for all sizes N. Steps S and tokens E = B S at which a
tuned run (batch_curves.py) reaches a set of loss levels; all levels are fitted together
(tradeoff_fit.py), and each on its own for the table. C is 6 N E or what `flops` says: only its ratio
to C_min = C / (1 + B / B_crit) is used. Curves are the exchangeable units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from orchestrator.laws.batch_curves import CURVE_COLUMNS, BatchCurves, batch_curves
from orchestrator.laws.jackknife import jackknife_draws, left_out_weights
from orchestrator.laws.level_readings import FEWEST_BATCHES, LevelReadings, read_levels
from orchestrator.laws.loss_points import Parameters, need, positive_interval, too_wide
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Estimate, FittedLaw, Floats, Status
from orchestrator.laws.tradeoff_fit import TradeoffFit
from search_spaces.errors import FitError

NAME = "critical-batch"
FORM = "B_crit = B_star / loss^(1/alpha_B); (steps/S_min - 1) (tokens/E_min - 1) = 1, E_min = B_crit S_min"
COLUMNS = CURVE_COLUMNS
# Batch sizes of one size closer together than this tell no trade-off. A guess.
NARROWEST_SPAN = 4.0
# Fewer levels than these make a line in log loss weak. A guess.
SOUND_LEVELS = 4
FEWEST_LEVELS = 2
# Curves further than this part of loss from the hyperbolas are not tuned, or follow another law. A guess:
# several times the noise between runs of equal settings.
WIDEST_SCATTER = 0.02
# Intervals of a single level that end further than this factor away are left open. A guess.
MOST_INTERVAL = 1e4
LARGEST_LOG = 300.0  # so that the square of a draw is a float64
LEVEL_QUANTITIES = ("critical_batch", "least_steps", "least_tokens")


def critical_batch(parameters: Parameters, loss: npt.ArrayLike) -> Floats:
    """B_crit(L) in tokens; all arguments broadcast."""
    B_star, alpha_B = (np.asarray(parameters[name], float) for name in ("B_star", "alpha_B"))
    logs = np.log(B_star) - np.log(np.asarray(loss, float)) / alpha_B
    return bounded_exp(logs)


def least_steps(
    parameters: Parameters, steps: npt.ArrayLike, batch_tokens: npt.ArrayLike, loss: npt.ArrayLike
) -> Floats:
    """S_min = S / (1 + B_crit(L) / B): the steps to the same loss at a batch far above the critical."""
    value: Floats = np.asarray(steps, float) / (1 + critical_batch(parameters, loss) / np.asarray(batch_tokens, float))
    return value


def least_tokens(
    parameters: Parameters, tokens: npt.ArrayLike, batch_tokens: npt.ArrayLike, loss: npt.ArrayLike
) -> Floats:
    """E_min = E / (1 + B / B_crit(L)): the tokens to the same loss at a batch far below the critical."""
    value: Floats = np.asarray(tokens, float) / (1 + np.asarray(batch_tokens, float) / critical_batch(parameters, loss))
    return value


def least_flops(
    parameters: Parameters, flops: npt.ArrayLike, batch_tokens: npt.ArrayLike, loss: npt.ArrayLike
) -> Floats:
    """C_min = C / (1 + B / B_crit(L)), in the unit of `flops`."""
    return least_tokens(parameters, flops, batch_tokens, loss)


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law. Raises FitError without two loss levels that three batch sizes of one size reach.

    Tables: `levels`, the hyperbola of each size and level on its own; `readings`, what it was fitted to.
    """
    curves = batch_curves(records, law=NAME)
    fitted = fit_tradeoff(curves, law=NAME)
    theta = jackknife_draws(fitted.theta, left_out(curves, fitted), dof=fitted.dof, draws=draws, seed=seed)
    drawn = as_parameters(np.clip(theta, fitted.lower, fitted.upper), fitted.middle)
    values = as_parameters(fitted.theta[None], fitted.middle)
    parameters = {
        name: positive_interval(float(value[0]), drawn[name], confidence=confidence, dof=None)
        for name, value in values.items()
    }
    rows = _level_rows(curves, fitted, confidence)
    reasons = weaknesses(fitted) + too_wide(
        {"alpha_B": parameters["alpha_B"], "B_crit": at_middle(drawn, fitted, confidence)}
    )
    losses = [row["loss"] for row in rows]
    return FittedLaw(
        name=NAME,
        form=FORM,
        parameters=parameters,
        draws=drawn,
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid=curves.valid | {"loss": (min(losses), max(losses))},
        runs_used=curves.runs,
        runs_excluded=curves.excluded,
        objective=fitted.objective,
        tables={"levels": rows, "readings": _reading_rows(curves, fitted.readings)},
    )


def fit_tradeoff(curves: BatchCurves, *, law: str) -> TradeoffFit:
    """The hyperbolas of these curves. Raises FitError where no two levels are passed by three batch sizes."""
    sizes = [len(np.unique(curves.curve[curves.size == size])) for size in range(curves.scales)]
    need(law, {"batch sizes of one size": (max(sizes), FEWEST_BATCHES)})
    readings = read_levels(curves)
    levels = 0 if readings is None else readings.levels
    need(
        law,
        {
            f"loss levels that {FEWEST_BATCHES} batch sizes of one size pass outside warmup and decay": (
                levels,
                FEWEST_LEVELS,
            )
        },
    )
    if readings is None or not (readings.slope > 0).any():
        raise FitError(f"the law {law!r} needs curves whose loss falls; none of these does")
    return TradeoffFit(readings)


def left_out(curves: BatchCurves, fitted: TradeoffFit) -> Floats:
    """The fits (groups, 2) without each group of curves in turn."""
    return fitted.refit(left_out_weights(fitted.readings.curve, curves.curves))


def as_parameters(theta: Floats, middle: float) -> dict[str, Floats]:
    """B_star and alpha_B, arrays (rows,), from rows of (centre, fall) around the log loss `middle`."""
    centre, fall = theta.T
    return {"B_star": bounded_exp(centre + fall * middle), "alpha_B": 1 / fall}


def bounded_exp(logs: npt.ArrayLike) -> Floats:
    """e^logs, kept where its square is a number: wild draws must not overflow."""
    value: Floats = np.exp(np.clip(logs, -LARGEST_LOG, LARGEST_LOG))
    return value


def at_middle(drawn: Mapping[str, Floats], fitted: TradeoffFit, confidence: float) -> Estimate:
    """B_crit at the middle level, where the line turns."""
    values = critical_batch(drawn, np.exp(fitted.middle))
    return positive_interval(float(bounded_exp(fitted.theta[0])), values, confidence=confidence, dof=None)


def weaknesses(fitted: TradeoffFit) -> list[str]:
    """Why not to trust a critical batch from these curves."""
    readings = fitted.readings
    low, high = float(readings.log_batch.min()), float(readings.log_batch.max())
    reasons = []
    if high - low < np.log(NARROWEST_SPAN * 0.99):
        span = f"{np.exp(high - low):.3g}"
        reasons.append(f"the batch sizes span a factor of {span}; {NARROWEST_SPAN:g} is needed to see the trade-off")
    if readings.levels < SOUND_LEVELS:
        reasons.append(f"only {readings.levels} loss levels; {SOUND_LEVELS} are needed to trust the line through them")
    if not low <= fitted.theta[0] <= high:
        side = "below" if fitted.theta[0] < low else "above"
        reasons.append(f"B_crit lies {side} all batch sizes tried: these curves do not show the trade-off")
    if (fitted.theta[1] <= fitted.lower[1]) or (fitted.theta[1] >= fitted.upper[1]):
        reasons.append("alpha_B is at a bound: these curves do not identify it")
    if fitted.scale > WIDEST_SCATTER:
        reasons.append(f"the curves lie {fitted.scale:.1%} of loss from their hyperbolas: are they tuned?")
    return reasons


def _level_rows(curves: BatchCurves, fitted: TradeoffFit, confidence: float) -> list[dict[str, Any]]:
    """A row for each size and level: B_crit, S_min and E_min with their intervals, None where unknown."""
    readings, levels = fitted.readings, fitted.levels()
    factor = float(stats.t.ppf((1 + confidence) / 2, fitted.dof))
    heights = (levels.log_critical, levels.log_steps, levels.log_steps + levels.log_critical)
    rows = []
    for group in range(readings.groups):
        mine = readings.group == group
        row: dict[str, Any] = {"params": _size(curves, readings, mine), "loss": float(np.exp(levels.log_loss[group]))}
        row["batches"] = int(mine.sum())
        for name, height, error in zip(LEVEL_QUANTITIES, heights, levels.log_stderr, strict=True):
            row |= _bounded(name, height[group], factor * error[group])
        rows.append(row)
    return rows


def _bounded(name: str, log_value: float, reach: float) -> dict[str, float | None]:
    known = bool(reach < np.log(MOST_INTERVAL))
    low, high = (float(bounded_exp(log_value + sign * reach)) if known else None for sign in (-1, 1))
    return {name: float(bounded_exp(log_value)), f"{name}_low": low, f"{name}_high": high}


def _reading_rows(curves: BatchCurves, readings: LevelReadings) -> list[dict[str, Any]]:
    steps, batches = np.exp(readings.log_steps), np.exp(readings.log_batch)
    return [
        {
            "params": float(curves.params[np.argmax(curves.curve == readings.curve[at])]),
            "loss": float(np.exp(readings.log_loss[at])),
            "batch_tokens": float(batches[at]),
            "steps": float(steps[at]),
            "tokens": float(steps[at] * batches[at]),
        }
        for at in range(steps.size)
    ]


def _size(curves: BatchCurves, readings: LevelReadings, mine: npt.NDArray[np.bool_]) -> float:
    return float(curves.params[np.argmax(curves.size == readings.size[mine][0])])
