"""The points that the loss laws were fitted to, as the figures show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.loss_points import FLOPS_PER_PARAM_TOKEN, LossPoints, loss_points
from orchestrator.laws.records import RunRecord
from orchestrator.laws.selection import SAME_COUNT
from orchestrator.laws.tuned import untuned_envelope, without_repeats
from orchestrator.report.data import ReportData
from orchestrator.report.style import NothingToDraw
from search_spaces.errors import FitError, InputError


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """`tuned`: losses at the fitted optima of the cells; else the lowest measured ones of each cell, or all."""

    points: LossPoints
    tuned: bool

    @property
    def words(self) -> str:
        """What a point is, for a caption."""
        return "the fitted loss at a cell's fitted optimum" if self.tuned else "a measured loss"


def envelope(data: ReportData) -> Envelope:
    """The points of the loss laws. Raises NothingToDraw where the table has none."""
    rows = data.laws["hyperparameters"].tables.get("optima", ()) if "hyperparameters" in data.laws else ()
    tuned = [
        RunRecord(
            run_id=f"cell {number}",
            params=row["params"],
            tokens=row["tokens"],
            loss=row["loss"],
            flops=_flops(data.records, row["params"], row["tokens"]),
        )
        for number, row in enumerate(rows)
    ]
    try:
        points = loss_points(tuned or untuned_envelope(without_repeats(data.records)[0]).records, law="the loss laws")
    except (InputError, FitError) as error:
        raise NothingToDraw(f"No picture of the loss laws: {error}.") from error
    return Envelope(points=points, tuned=bool(tuned))


def _flops(records: Sequence[RunRecord], params: float, tokens: float) -> float:
    """FLOP of a run of this cell by the table's own count, scaled from the nearest token count of its size."""
    mine = [r for r in records if r.flops and r.tokens and r.params and abs(r.params / params - 1) < SAME_COUNT]
    if not mine:
        return FLOPS_PER_PARAM_TOKEN * params * tokens
    nearest = min(mine, key=lambda record: abs(np.log((record.tokens or 1.0) / tokens)))
    return (nearest.flops or 0.0) * tokens / (nearest.tokens or tokens)
