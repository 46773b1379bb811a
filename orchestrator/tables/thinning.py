"""Long curves cut down to the points that a law can use, before they cost memory and time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.laws.records import CANONICAL_COLUMNS, RunRecord
from orchestrator.laws.resample import unit_indices
from orchestrator.laws.result import Floats
from orchestrator.laws.selection import MAX_POINTS_PER_RUN, spaced

Ints = npt.NDArray[np.int64]


def kept_points(curve: Ints, place: Floats, loss: Floats) -> npt.NDArray[np.intp]:
    """Indices, rising, of the points to keep: at most MAX_POINTS_PER_RUN of a curve, as `select` would choose them.

    `curve` numbers the curve of each point, -1 for a point of none; `place` is its tokens, or its flops where those
    are not known; both and `loss` may be NaN. Points of no curve or without a place are kept. So are points of a curve
    that share a place, which is for the reader to say. Points without a usable loss never crowd out others.
    """
    with np.errstate(invalid="ignore"):
        placed = (curve >= 0) & np.isfinite(place) & (place > 0)
        usable = np.isfinite(loss) & (loss > 0)
    order = np.lexsort((loss, place, usable, curve))
    order = order[placed[order]]
    kept = ~placed
    before, after = order[:-1], order[1:]
    same = (curve[before] == curve[after]) & (usable[before] == usable[after])
    repeats = same & (place[before] == place[after])
    kept[before[repeats]] = kept[after[repeats]] = True
    for points in np.split(order, np.flatnonzero(~same) + 1):
        kept[points if points.size <= MAX_POINTS_PER_RUN else points[spaced(place[points])]] = True
    return np.flatnonzero(kept)


def kept_records(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The same for records. Points of a run that know different columns are different curves: none is lost."""
    known = [tuple(getattr(record, name) is not None for name in CANONICAL_COLUMNS) for record in records]
    curve = unit_indices([(record.run_id, record.status, which) for record, which in zip(records, known, strict=True)])
    place = np.array([record.tokens or record.flops or np.nan for record in records], float)
    loss = np.array([np.nan if record.loss is None else record.loss for record in records], float)
    return [records[int(index)] for index in kept_points(curve, place, loss)]


def thinning_note(kept: int, read: int, what: str) -> tuple[str, ...]:
    """What a person should know where fewer were kept than read."""
    if kept == read:
        return ()
    return (
        f"at most {MAX_POINTS_PER_RUN} points of a run's curve are used, evenly spaced in log tokens: "
        f"{kept} of {read} {what}",
    )
