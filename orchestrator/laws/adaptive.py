"""The law `adaptive`: which shape to train at each loss, and the compute that saves over one static shape.

Anagnostidis et al. 2023 (arXiv:2311.03233): the loss of each static shape over compute is
f(C) = a (C + d)^-b + c (static_curves.py); a model that may change its shape follows, at each loss, the shape
whose marginal cost is least (traversal.py). A shape is one `params` value here, N what that counts and C what
`flops` says; of several runs of a shape the lowest counts at each compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.laws.fitted_surface import fitted_surface
from orchestrator.laws.loss_points import (
    LossPoints,
    loss_points,
    need,
    positive_interval,
    too_few_scales,
    too_wide,
    unidentified,
)
from orchestrator.laws.lower_envelope import SizeCurves
from orchestrator.laws.records import RunRecord
from orchestrator.laws.resample import interval
from orchestrator.laws.result import Estimate, FittedLaw, Floats, Status
from orchestrator.laws.run_noise import BETWEEN, shifted_samples
from orchestrator.laws.static_curves import PARAMETERS, StaticFit, fit_static, flops_at, loss, marginal_cost
from orchestrator.laws.traversal import Shape, Traversal, traverse

__all__ = ["COLUMNS", "FORM", "NAME", "fit", "flops_at", "loss", "marginal_cost"]

NAME = "adaptive"
FORM = "a (flops + d)^-b + c for each shape; at each loss train the shape of least -d flops / d loss"
COLUMNS = ("params", "tokens", "loss")
FEWEST_SHAPES = 2
FEWEST_POINTS = len(PARAMETERS) + 1
# More shapes than these are thinned evenly in log params: each costs a fit of every sample, and neighbours this
# close cost nearly the same.
MOST_SHAPES = 16
LEVELS = 240  # losses at which the shape may change, evenly in log loss
ROWS = 24  # of the table `schedule`
BEYOND_REACH = 1e150  # compute that is as good as infinite; its square must not overflow

Rows = npt.NDArray[np.intp]


def fit(records: Sequence[RunRecord], *, confidence: float = 0.95, seed: int = 0, draws: int = 1000) -> FittedLaw:
    """Fit the curves of all shapes and follow the cheapest. Raises FitError below 2 shapes of 5 points.

    Samples give every run other luck and every point other noise, as large as the residuals of a surface
    through the curves (run_noise.py). Parameters: `saved`, the part of the best static shape's compute that is
    saved down to the lowest loss that every sample reaches within its measurements; `flops` and `static_flops`
    are the compute to it. Tables: `switches`, `schedule` along the loss, and the `shapes` with their a, b, c, d.
    """
    points = loss_points(records, law=NAME)
    curves = SizeCurves.of(points)
    rows = _thinned([at for at in curves.rows if len(at) >= FEWEST_POINTS])
    need(NAME, {f"shapes with {FEWEST_POINTS} points": (len(rows), FEWEST_SHAPES)})
    measured = [curves.points[at] for at in rows]
    shifts = shifted_samples(curves.points, fitted_surface(curves.points), draws, seed)
    fits = [fit_static(curve, shifts[:, at]) for curve, at in zip(measured, rows, strict=True)]
    shapes = [_shape(curve, static) for curve, static in zip(measured, fits, strict=True)]
    found = traverse(shapes, _levels(shapes))
    intervals = _Intervals(confidence=confidence, dof=float(max(curves.points.runs - BETWEEN, 1)))
    drawn = _drawn(found)
    parameters = {name: intervals.of(name, column) for name, column in drawn.items()}
    reasons = _weaknesses(shapes, fits, found, parameters)
    return FittedLaw(
        name=NAME,
        form=FORM,
        parameters=parameters,
        draws={name: column[1:] for name, column in drawn.items()},
        status=Status.WEAK if reasons else Status.OK,
        reason="; ".join(reasons),
        confidence=confidence,
        valid=points.valid | {"loss": (float(found.loss[-1]), float(found.loss[0]))},
        runs_used=points.runs,
        runs_excluded=points.excluded,
        objective=sum(static.objective for static in fits),
        tables={
            "switches": _switches(shapes, found, intervals),
            "schedule": _schedule(shapes, found, intervals),
            "shapes": [_shape_row(shape, intervals) for shape in shapes],
        },
    )


@dataclass(frozen=True, kw_only=True)
class _Intervals:
    """Intervals from columns whose first entry is the estimate and the others its draws."""

    confidence: float
    dof: float

    def of(self, name: str, column: Floats) -> Estimate:
        """In logarithms, but for `saved`, a part, whose percentiles are wide enough without Student's t.

        Samples that are beyond reach do not get there.
        """
        finite = column[1:][np.abs(column[1:]) < BEYOND_REACH]
        if name == "saved":
            return interval(float(column[0]), finite, confidence=self.confidence, dof=None)
        return positive_interval(float(column[0]), finite, confidence=self.confidence, dof=self.dof)

    def columns(self, name: str, column: Floats) -> dict[str, float | None]:
        """The same as columns of a table."""
        found = self.of(name, column)
        return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _thinned(rows: list[Rows]) -> list[Rows]:
    """At most MOST_SHAPES, the smallest and the largest among them."""
    return [rows[int(at)] for at in np.unique(np.linspace(0, len(rows) - 1, MOST_SHAPES).round())] if rows else []


def _shape(curve: LossPoints, static: StaticFit) -> Shape:
    """A shape with its parameters, the estimate first."""
    return Shape(
        params=float(curve.params[0]),
        flops_per_token=float(np.median(curve.flops / curve.tokens)),
        first_flops=float(curve.flops[0]),
        last_flops=float(curve.flops[-1]),
        parameters={name: np.concatenate([static.own[name], static.drawn[name]]) for name in PARAMETERS},
    )


def _levels(shapes: Sequence[Shape]) -> Floats:
    """From the highest loss measured down to the lowest that every sample reaches within its measurements."""
    highest = max(float(loss(shape.parameters, shape.first_flops)[0]) for shape in shapes)
    ends = np.min([loss(shape.parameters, shape.last_flops) for shape in shapes], axis=0)
    need(NAME, {"losses that every sample reaches": (int(ends.max() < highest), 1)})
    return np.geomspace(highest, float(ends.max()), LEVELS)


def _drawn(found: Traversal) -> dict[str, Floats]:
    """The law's parameters at the lowest loss, the estimate first."""
    return {
        "saved": found.saved[:, -1],
        "flops": found.flops[:, -1],
        "static_flops": found.static_flops[:, -1],
    }


def _switches(shapes: Sequence[Shape], found: Traversal, intervals: _Intervals) -> list[dict[str, Any]]:
    """A row a change of shape; `part_of_samples` is how many train the new shape at all."""
    order = found.shape[0]
    rows = []
    for at in np.flatnonzero((order[1:] != order[:-1]) & (order[:-1] >= 0)):
        before, after = int(order[at]), int(order[at + 1])
        first = found.first_level(after)
        # A shape takes over where the one before was last trained: at the level above.
        begun, level = np.flatnonzero(first > 0), first[first > 0] - 1
        row: dict[str, Any] = {"from_params": shapes[before].params, "params": shapes[after].params}
        seen = {"loss": found.loss[level], "flops": found.flops[begun, level], "tokens": found.tokens[begun, level]}
        own = {"loss": found.loss[at], "flops": found.flops[0, at], "tokens": found.tokens[0, at]}
        for name, column in seen.items():
            row |= intervals.columns(name, np.concatenate([[own[name]], column[begun > 0]]))
        rows.append(row | {"part_of_samples": float(np.mean(first[1:] >= 0))})
    return rows


def _schedule(shapes: Sequence[Shape], found: Traversal, intervals: _Intervals) -> list[dict[str, Any]]:
    """Some levels of loss with the shape, the compute so far, that of the best static shape, and what is saved."""
    rows = []
    for at in np.unique(np.linspace(0, LEVELS - 1, ROWS).round().astype(int)):
        if not np.isfinite(found.flops[0, at]):
            continue
        best = shapes[int(found.static_shape[0, at])]
        row: dict[str, Any] = {"loss": float(found.loss[at]), "params": shapes[int(found.shape[0, at])].params}
        row |= {"tokens": float(found.tokens[0, at]), "static_params": best.params}
        for name, column in (("flops", found.flops), ("static_flops", found.static_flops), ("saved", found.saved)):
            row |= intervals.columns(name, column[:, at])
        rows.append(row)
    return rows


def _shape_row(shape: Shape, intervals: _Intervals) -> dict[str, Any]:
    """The parameters of a shape's curve and the compute that it was measured at."""
    row: dict[str, Any] = {"params": shape.params, "flops_min": shape.first_flops, "flops_max": shape.last_flops}
    for name in PARAMETERS:
        row |= intervals.columns(name, shape.parameters[name])
    return row


def _weaknesses(
    shapes: Sequence[Shape], fits: Sequence[StaticFit], found: Traversal, parameters: Mapping[str, Estimate]
) -> list[str]:
    """Why not to trust the schedule. A d at its bound is none: the power law then holds from the start."""
    trained = [fits[number] for number in np.unique(found.shape[0]) if number >= 0]
    at_bound = {
        f"{name} of a shape that is trained is at a bound": _sides(
            np.stack([static.at_bound[:, at] for static in trained])
        )
        for at, name in enumerate("bc")
    }
    reasons = too_few_scales(len(shapes)) + unidentified(at_bound)
    if len(trained) < 2:
        reasons.append("one shape is the cheapest at every loss: there is nothing to switch")
    if (low := parameters["saved"].low) is None or low <= 0:
        reasons.append("the interval of what is saved includes nothing")
    return reasons + too_wide({name: parameters[name] for name in ("flops", "static_flops")})


def _sides(at_bound: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The fits' own, and their samples'."""
    return at_bound[:, 0], at_bound[:, 1:]
