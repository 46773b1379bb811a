"""The points of Kaplan's laws: N without embeddings, D the dataset where data are repeated.

Kaplan et al. 2020 (arXiv:2001.08361), sections 1.3 and 4: N leaves out embeddings, D is the size of the
dataset, and the loss is that of the early stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from orchestrator.laws.loss_points import LossPoints, loss_points
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Exclusion, Floats
from orchestrator.laws.selection import SAME_COUNT, cluster_numbers

# The loss counts as converged where one more doubling of the other quantity lowers it by less. A guess: by
# Kaplan's L(N, D), analytic in 1/D, the loss is then within 0.01 / ln 2 = 1.4 % of its limit.
CONVERGED_FALL = 0.01
# The fall is read from points within this factor of the largest. A guess: two doublings.
FALL_WINDOW = 4.0


@dataclass(frozen=True, kw_only=True)
class KaplanPoints:
    """`points.params` is N and `points.tokens` is D; `counted` says in words what they count."""

    points: LossPoints
    counted: str


def kaplan_points(records: Sequence[RunRecord], *, law: str) -> KaplanPoints:
    """Points with N = non_embedding_params where every run has it, else params; D as trained.

    Raises MissingColumnError, or FitError where nothing is usable.
    """
    points = loss_points(records, law=law)
    known = {record.run_id: record.non_embedding_params or 0.0 for record in records}
    count = np.array([known[unit] for unit in points.units])
    if not (np.isfinite(count) & (count > 0)).all():
        return KaplanPoints(points=points, counted="params as the table counts them")
    return KaplanPoints(points=replace(points, params=count), counted="params without embeddings")


def dataset_points(records: Sequence[RunRecord], *, law: str) -> KaplanPoints:
    """The same with D = unique_tokens where a run saw its data more than once.

    Then each size has one point a dataset, its lowest loss: the early stop. Raises as kaplan_points does.
    """
    found = kaplan_points(records, law=law)
    points = found.points
    unique = {r.run_id: r.unique_tokens for r in records if r.unique_tokens is not None and r.unique_tokens > 0}
    datasets = np.array([unique.get(unit, np.inf) for unit in points.units])
    if not (points.tokens > datasets * (1 + SAME_COUNT)).any():
        return found
    seen = np.minimum(datasets, _last_tokens(points))
    size, dataset = cluster_numbers(points.params.tolist()), cluster_numbers(seen.tolist())
    order = np.lexsort((points.loss, dataset, size))
    pairs = np.stack([size[order], dataset[order]])
    chosen = order[np.unique(pairs, axis=1, return_index=True)[1]]
    stopped = replace(points[chosen], tokens=seen[chosen])
    return KaplanPoints(points=stopped, counted=f"{found.counted}, tokens are unique tokens at the early stop")


def fall_per_doubling(quantity: Floats, loss: Floats) -> float | None:
    """By what part the loss falls when the quantity doubles, at its largest values; None for a single value."""
    values = np.unique(quantity)
    distinct = values[np.concatenate([[True], np.diff(np.log(values)) > SAME_COUNT])]
    if len(distinct) < 2:
        return None
    near = quantity >= min(distinct[-1] / FALL_WINDOW, distinct[-2]) * (1 - SAME_COUNT)
    doublings = np.log2(quantity[near])
    away = doublings - doublings.mean()
    return float(-(away @ np.log(loss[near])) / (away @ away))


def still_falling(x: Floats, falls: Sequence[float | None], what: str) -> list[str]:
    """A reason where the loss is not converged along a law's points; `what` is the quantity that limits it.

    A straight line through the falls over log x is judged at both ends, so that the noise of one is not.
    """
    known = np.array([fall is not None for fall in falls])
    if not known.any():
        return [f"each point has one count of {what} alone: nothing says that its loss has converged"]
    away = np.log(x) - np.log(x[known]).mean()
    values = np.array([fall for fall in falls if fall is not None])
    spread = float(away[known] @ away[known])
    slope = float(away[known] @ values) / spread if known.sum() > 2 and spread > 0 else 0.0
    ends = values.mean() + slope * away[[int(np.argmin(x)), int(np.argmax(x))]]
    if ends.max() <= CONVERGED_FALL:
        return []
    end = "largest" if ends[1] >= ends[0] else "smallest"
    return [f"the loss of the {end} point still falls by {ends.max():.1%} per doubling of {what}: not converged"]


def not_chosen(points: LossPoints, chosen: Sequence[str], reason: str) -> tuple[Exclusion, ...]:
    """What was left out before, and each run that the law's rule did not choose."""
    kept = set(chosen)
    others = (run for run in dict.fromkeys(points.units) if run not in kept)
    return (*points.excluded, *(Exclusion(run=run, reason=reason) for run in others))


def last_of_runs(points: LossPoints) -> npt.NDArray[np.intp]:
    """Where the last point of each run is."""
    return np.flatnonzero(points.tokens == _last_tokens(points))


def _last_tokens(points: LossPoints) -> Floats:
    """For each point the most tokens of its run."""
    names, unit = np.unique(points.units, return_inverse=True)
    last = np.zeros(len(names))
    np.maximum.at(last, unit, points.tokens)
    most: Floats = last[unit]
    return most
