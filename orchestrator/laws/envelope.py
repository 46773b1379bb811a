"""The law `envelope`: the best size at each compute from the lower envelope of all training curves.

Hoffmann et al. 2022 (arXiv:2203.15556), Approach 1: at each of 1,500 log-spaced FLOP the run of lowest
loss; power laws N*(C) = k C^a and D*(C) = kd C^b through the sizes and tokens of these minima. N is what
`params` counts in the table, C its `flops` (Hoffmann: all parameters, and FLOP counted in full). A
size counts from the compute where its curve crosses that of a smaller one to where a larger one's crosses it: at
the ends the smallest or largest size would be lowest for want of others. The ladder's steps leave a bias, which is
reported: table `design_bias`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.laws.allocation import FORM, centred, estimates, fitted, optimal_params, optimal_tokens
from orchestrator.laws.design_bias import DesignBias
from orchestrator.laws.fitted_surface import FittedSurface, fitted_surface
from orchestrator.laws.loss_points import DECAYING, LossPoints, loss_points, need, too_wide
from orchestrator.laws.lower_envelope import LowerEnvelope, SizeCurves
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import FittedLaw, Floats, Status
from orchestrator.laws.run_noise import BETWEEN, shifted_samples

__all__ = ["COLUMNS", "FORM", "NAME", "fit", "optimal_params", "optimal_tokens"]

NAME = "envelope"
COLUMNS = ("params", "tokens", "loss")
COMPUTES = 1500  # log-spaced FLOP at which the lowest curve is found (Hoffmann et al. 2022, section 3.1)
DRAWN_COMPUTES = 500  # the same in each replicate: with 150, their spread doubled
# Sizes on the envelope between two crossings: through fewer steps there is no line.
FEWEST_STEPS, SOUND_STEPS = 2, 4
# A schedule that is longer than the run by more than this part costs loss (Hoffmann et al. 2022, appendix B).
OVERSHOOT = 0.25
MOST_UNFINISHED = 0.1  # so much of the envelope may lie in runs that were to go on decaying. A guess


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the law to whole curves. Raises FitError where less than 2 sizes are lowest between two crossings.

    Replicates are envelopes of the surface through the curves with other luck for every run and other noise
    for every point, both as large as the curves' residuals (run_noise.py), moved to lie around the estimate:
    the envelope of fewer runs would be another estimate, and that of noisy curves with more noise a biased one.

    Tables: `steps`, a row a size on the envelope; `design_bias`, what the design does to `a`.
    """
    points = loss_points(records, law=NAME, unfinished=True)
    curves = SizeCurves.of(points)
    need(NAME, {"sizes with two points or more": (len(curves.rows), FEWEST_STEPS + 2)})
    own = curves.envelope(curves.places(COMPUTES), _unchanged(curves.points))
    need(NAME, {"sizes that are lowest between two crossings": (len(own.sizes), FEWEST_STEPS)})
    values = {name: float(column[0]) for name, column in own.laws().items()}
    surface = fitted_surface(curves.points)
    samples = _samples(curves, surface, draws, seed)
    drawn = centred(samples, values)
    parameters = estimates(values, drawn, confidence=confidence, dof=float(max(curves.points.runs - BETWEEN, 1)))
    bias = DesignBias.of(float(samples["a"].mean()), surface)
    reasons = _too_few_steps(own) + _unfinished(own, curves, records)
    reasons += too_wide({name: parameters[name] for name in ("a", "b")})
    return FittedLaw(
        name=NAME,
        form=FORM,
        parameters=parameters,
        draws=drawn,
        status=Status.WEAK if reasons or bias.weak else Status.OK,
        reason="; ".join([*reasons, *bias.notes(parameters["a"])]),
        confidence=confidence,
        valid=points.valid,
        runs_used=points.runs,
        runs_excluded=points.excluded,
        tables={"steps": _steps(own), "design_bias": bias.rows(parameters["a"])},
    )


def _unchanged(points: LossPoints) -> Floats:
    """One sample without any noise added."""
    return np.zeros((1, len(points.loss)))


def _samples(curves: SizeCurves, surface: FittedSurface, draws: int, seed: int) -> dict[str, Floats]:
    """The laws of curves on the surface with noise, where they can be fitted."""
    shifts = shifted_samples(curves.points, surface, draws, seed)
    on_surface = curves.with_loss(surface.loss(curves.points))
    found = on_surface.envelope(on_surface.places(DRAWN_COMPUTES), shifts).laws()
    return fitted(found, law=NAME)


def _too_few_steps(own: LowerEnvelope) -> list[str]:
    steps = len(own.sizes)
    return (
        []
        if steps >= SOUND_STEPS
        else [f"only {steps} sizes are lowest between two crossings; {SOUND_STEPS} are needed"]
    )


def _unfinished(own: LowerEnvelope, curves: SizeCurves, records: Sequence[RunRecord]) -> list[str]:
    """A reason where the envelope lies inside runs whose schedule was to go on: shorter ones would be lower."""
    horizons: dict[str, float] = {}
    for record in records:
        if record.schedule in DECAYING and record.tokens is not None:
            horizons[record.run_id] = max(record.tokens, horizons.get(record.run_id, 0.0))
    inner = np.flatnonzero(own.inner[0])
    rows = [curves.row_near(int(own.size[0, at]), float(own.log_flops[at])) for at in inner]
    points = curves.points
    early = [points.tokens[row] * (1 + OVERSHOOT) < horizons.get(points.units[row], 0.0) for row in rows]
    part = float(np.mean(early))
    return [] if part <= MOST_UNFINISHED else [f"{part:.0%} of the envelope lies inside runs that were still decaying"]


def _steps(own: LowerEnvelope) -> list[dict[str, Any]]:
    """A row a size that is lowest somewhere, with the compute, tokens and loss where its step begins and ends."""
    rows = []
    for number in np.unique(own.size[own.size >= 0]):
        at = np.flatnonzero(own.size[0] == number)
        ends = {"from": at[0], "to": at[-1]}
        columns = {"flops": own.log_flops, "tokens": own.minima.log_tokens[0], "loss": own.minima.log_loss[0]}
        row: dict[str, Any] = {"params": float(np.exp(own.minima.log_params[0, at[0]]))}
        for name, logs in columns.items():
            row |= {f"{name}_{end}": float(np.exp(logs[place])) for end, place in ends.items()}
        rows.append(row | {"used": bool(own.inner[0, at].any())})
    return rows
