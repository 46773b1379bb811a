"""The downstream error at a target: Gadre's two laws chained, with the intervals of both."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.laws import downstream, overtraining
from orchestrator.laws.predicted import OUTSIDE, Notes, Predicted, normal_scores, predicted_interval
from orchestrator.laws.result import FittedLaw, Floats, Status

SMALLEST_ERROR = 1e-6  # stands for zero where an interval is made in logarithms


def predicted_error(
    laws: Mapping[str, FittedLaw], flops: float, tokens_per_param: float, noise_sd: float | None, notes: Notes
) -> dict[str, Predicted]:
    """`error` of a run of this compute (FLOP) and split, 0 to 1; nothing unless both laws were fitted.

    The interval of one run adds the noise of its loss and the scatter of errors around the law.
    """
    chain = [laws.get(name) for name in (overtraining.NAME, downstream.NAME)]
    fitted = [law for law in chain if law is not None and law.status is not Status.FAILED]
    if len(fitted) < len(chain):
        return {}
    of_loss, of_error = fitted
    notes.use(of_loss)
    notes.use(of_error)
    loss = float(overtraining.loss(_values(of_loss), flops, tokens_per_param))
    value = float(np.clip(downstream.error(_values(of_error), loss), SMALLEST_ERROR, 1.0))
    _warn_loss(of_error, loss, notes)
    rows = min(_rows(of_loss), _rows(of_error))
    if not rows:
        return {"error": Predicted(value=value)}
    losses = overtraining.loss(_first(of_loss, rows), flops, tokens_per_param)
    noisy = losses * np.exp((noise_sd or 0.0) * normal_scores(rows))
    errors = _first(of_error, rows)
    scatter = of_error.value("scatter") * normal_scores(rows, 1)
    mean, single = _inside(downstream.error(errors, losses)), _inside(downstream.error(errors, noisy) + scatter)
    return {"error": predicted_interval(value, mean, single, of_error.confidence)}


def _values(law: FittedLaw) -> dict[str, float]:
    return {name: estimate.value for name, estimate in law.parameters.items()}


def _rows(law: FittedLaw) -> int:
    return min((len(draws) for draws in law.draws.values()), default=0)


def _first(law: FittedLaw, rows: int) -> dict[str, Floats]:
    return {name: draws[:rows] for name, draws in law.draws.items()}


def _inside(errors: Floats) -> Floats:
    return np.clip(errors, SMALLEST_ERROR, 1.0)


def _warn_loss(law: FittedLaw, loss: float, notes: Notes) -> None:
    """The loss that the error is read at lies outside of those with a measured error."""
    low, high = law.valid["loss"]
    if not low / OUTSIDE <= loss <= high * OUTSIDE:
        notes.add(f"the error is read at a loss of {loss:.3g}, and errors were measured from {low:.3g} to {high:.3g}")
