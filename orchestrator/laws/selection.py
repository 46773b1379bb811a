"""Which points a law uses, which it leaves out and why, and how they fall into cells."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Exclusion
from search_spaces.errors import MissingColumnError

# Design 6: more points of one run add no information, since they share its noise.
MAX_POINTS_PER_RUN = 20
# Counts this close, relatively, are one count: tables round them, and steps do not divide tokens. A guess.
SAME_COUNT = 0.01
# Under a constant schedule, cells are read from the curves down to this part of a scale's longest
# horizon, three per doubling (as sweeps evaluate). A guess: earlier points remember the warmup.
SHORTEST_READING = 1 / 32
READINGS_PER_DOUBLING = 3
# A shorter cell is at least so many warmups long. A guess: Porian et al. 2024 had 5 and more at the optimum.
WARMUPS = 2
# What nobody trains, so that it is a slip of a unit or of a column: a value beyond these is not used. Guesses,
# each several orders of magnitude beyond anything published.
PLAUSIBLE: Mapping[str, tuple[float, float]] = {
    "params": (1.0, 1e18),
    "non_embedding_params": (1.0, 1e18),
    "tokens": (1.0, 1e21),
    "unique_tokens": (1.0, 1e21),
    "flops": (1.0, 1e40),
    "loss": (1e-9, 1e6),
    "error": (1e-9, 1.0),
    "learning_rate": (1e-15, 1e6),
    "batch_tokens": (1.0, 1e15),
    "beta2": (1e-6, 1 - 1e-9),
}
# Fewer tokens than this part of the params are no training run either. A guess.
LEAST_TOKENS_PER_PARAM = 1e-6


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Points sorted by run and tokens, the diverged ones apart, and what was left out."""

    used: tuple[RunRecord, ...]
    diverged: tuple[RunRecord, ...] = ()
    excluded: tuple[Exclusion, ...] = ()

    @property
    def runs(self) -> int:
        """Number of runs among the used points."""
        return len({record.run_id for record in self.used})


@dataclass(frozen=True, kw_only=True)
class CellRuns:
    """The runs of one (params, tokens) cell, each with its loss at the cell's tokens.

    `scale` numbers the distinct params, smallest first. `diverged` runs of the scale bound the learning rate.
    """

    scale: int
    params: float
    tokens: float
    runs: tuple[RunRecord, ...]
    diverged: tuple[RunRecord, ...] = ()

    @property
    def raw_minimum(self) -> float:
        """Lowest measured loss, luck included."""
        return min(_loss(run) for run in self.runs)


def present(records: Sequence[RunRecord], column: str) -> bool:
    """Whether any record has a value in the column."""
    return any(getattr(record, column) is not None for record in records)


def require_columns(records: Sequence[RunRecord], columns: Iterable[str], *, law: str) -> None:
    """Raise MissingColumnError where a column has no value at all."""
    for column in columns:
        if not present(records, column):
            raise MissingColumnError(
                f"the law {law!r} needs the column {column!r}, which none of the {len(records)} points has; "
                f"where the table has it under another name, say so (--column {column}=THEIRS)"
            )


def select(records: Sequence[RunRecord], columns: Iterable[str], *, law: str) -> Selection:
    """The points with a positive, finite number in each column, at most MAX_POINTS_PER_RUN a run.

    Failed runs and unusable points are left out with their reason; diverged runs are put apart.
    Raises MissingColumnError where a column has no value at all.
    """
    wanted = tuple(columns)
    require_columns(records, wanted, law=law)
    ordered = sorted(records, key=lambda record: (record.run_id, record.tokens or 0.0))
    used: dict[str, list[RunRecord]] = defaultdict(list)
    diverged: list[RunRecord] = []
    reasons: dict[str, str] = {}
    for record in ordered:
        reason = _unusable(record, wanted)
        if record.status == "diverged":
            diverged.append(record)
            reasons[record.run_id] = "diverged: its loss is no measurement, it bounds the learning rate"
        elif reason is None:
            used[record.run_id].append(record)
        else:
            reasons.setdefault(record.run_id, reason)
    excluded = tuple(Exclusion(run=run, reason=reason) for run, reason in sorted(reasons.items()) if run not in used)
    points = tuple(point for run in used.values() for point in _thin(run))
    return Selection(used=points, diverged=tuple(diverged), excluded=excluded)


def group_cells(selection: Selection) -> tuple[CellRuns, ...]:
    """Cells in rising (params, tokens); each run is in a cell once, read from its curve where needed.

    Runs under a constant schedule serve the shorter cells of their scale too; others only their own end.
    """
    sizes = [_params(record) for record in selection.used]
    cells: list[CellRuns] = []
    for number, (low, high) in enumerate(clusters(sizes)):
        points = [record for record, size in zip(selection.used, sizes, strict=True) if low <= size <= high]
        diverged = [d for d in selection.diverged if d.params is not None and _within(d.params, low, high)]
        params = float(np.median([_params(record) for record in points]))
        for tokens in _horizons(points):
            runs = _runs_at(points, tokens)
            if runs:
                bounds = tuple(d for d in diverged if d.tokens is None or d.tokens <= tokens * (1 + SAME_COUNT))
                cells.append(CellRuns(scale=number, params=params, tokens=tokens, runs=runs, diverged=bounds))
    return tuple(cells)


def share_runs(cells: Sequence[CellRuns]) -> bool:
    """Whether a run is read in more than one cell."""
    counted = [run.run_id for cell in cells for run in cell.runs]
    return len(counted) > len(set(counted))


def envelope_record(cell: CellRuns, loss: float, *, unit: str) -> RunRecord:
    """A point of the tuned envelope: the cell's loss, with the counts of its runs but no settings."""
    first = cell.runs[0]
    flops = [run.flops for run in cell.runs if run.flops is not None]
    return RunRecord(
        run_id=unit,
        params=cell.params,
        tokens=cell.tokens,
        loss=loss,
        non_embedding_params=first.non_embedding_params,
        flops=float(np.median(flops)) if flops else None,
        schedule=first.schedule,
        group=first.group,
    )


def raw_envelope(cells: Sequence[CellRuns]) -> tuple[RunRecord, ...]:
    """The lowest measured loss of each cell: for tables in which no optimum can be fitted."""
    return tuple(_lowest(cell) for cell in cells)


def _lowest(cell: CellRuns) -> RunRecord:
    return min(cell.runs, key=lambda run: (_loss(run), run.run_id))


def _unusable(record: RunRecord, columns: Sequence[str]) -> str | None:
    if record.status == "failed":
        return "failed: it has no measurement"
    wrong = (words for column in columns if (words := _wrong(column, getattr(record, column))) is not None)
    if (first := next(wrong, None)) is not None:
        return first
    if record.params and record.tokens and record.tokens < LEAST_TOKENS_PER_PARAM * record.params:
        return f"tokens is less than {LEAST_TOKENS_PER_PARAM:g} of params; are their units right?"
    return None


def _wrong(column: str, value: object) -> str | None:
    """Why a value of a column cannot be used."""
    if value is None:
        return f"no {column}"
    if not isinstance(value, int | float):
        return None
    if not (math.isfinite(value) and value > 0):
        return f"{column} is {value:g}, not a positive finite number"
    if column == "beta2" and value >= 1:
        return f"beta2 is {value:g}, not below 1"
    low, high = PLAUSIBLE.get(column, (0.0, math.inf))
    if low <= value <= high:
        return None
    return f"{column} is {value:.12g}, beyond anything trained ({low:.12g} to {high:.12g}); is its unit right?"


def _thin(points: Sequence[RunRecord]) -> Sequence[RunRecord]:
    if len(points) <= MAX_POINTS_PER_RUN:
        return points
    return [points[int(index)] for index in spaced([_tokens(point) for point in points])]


def spaced(tokens: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Indices of at most MAX_POINTS_PER_RUN of rising counts, evenly spaced in logs; the last always stays."""
    logs = np.log(np.asarray(tokens, float))
    if logs.size <= MAX_POINTS_PER_RUN:
        return np.arange(logs.size)
    wanted = np.linspace(logs[0], logs[-1], MAX_POINTS_PER_RUN)
    nearest = np.abs(logs - wanted[:, None]).argmin(axis=1)
    return np.unique(np.append(nearest, logs.size - 1))


def clusters(values: Sequence[float]) -> list[tuple[float, float]]:
    """Rising (low, high) of the groups of positive values that are the same to SAME_COUNT, relatively."""
    groups: list[tuple[float, float]] = []
    for value in sorted(set(values)):
        if groups and _within(value, *groups[-1]):
            groups[-1] = (groups[-1][0], value)
        else:
            groups.append((value, value))
    return groups


def cluster_numbers(values: Sequence[float]) -> npt.NDArray[np.int64]:
    """Which of the rising `clusters` each value is in."""
    lows = [low for low, _ in clusters(values)]
    return np.asarray(np.searchsorted(lows, values, side="right") - 1)


def _within(value: float, low: float, high: float) -> bool:
    return low * (1 - SAME_COUNT) <= value <= high * (1 + SAME_COUNT)


def _horizons(points: Sequence[RunRecord]) -> list[float]:
    """Rising token counts at which a scale's runs are compared."""
    last: dict[str, RunRecord] = {}
    for point in points:
        last[point.run_id] = point
    ends = [high for _, high in clusters([_tokens(point) for point in last.values()])]
    serving = {point.run_id for point in points if point.schedule == "constant"}
    curve = [point for point in points if point.run_id in serving]
    if len(curve) == len(serving):
        return ends
    longest = max(_tokens(point) for point in curve)
    warmup = max((point.warmup_tokens or 0.0 for point in curve), default=0.0)
    shortest = max(longest * SHORTEST_READING * (1 - SAME_COUNT), WARMUPS * warmup)
    measured = [high for _, high in clusters([_tokens(point) for point in curve]) if high >= shortest]
    return sorted(set(ends) | _readings(measured, longest))


def _readings(measured: Sequence[float], longest: float) -> set[float]:
    """The measured counts nearest to a grid of READINGS_PER_DOUBLING down from the longest."""
    steps = round(-math.log2(SHORTEST_READING) * READINGS_PER_DOUBLING)
    grid = [longest * 2 ** (-step / READINGS_PER_DOUBLING) for step in range(steps + 1)]
    reach = 0.5 * math.log(2) / READINGS_PER_DOUBLING
    near = [min(measured, key=lambda tokens: abs(math.log(tokens / place)), default=0.0) for place in grid]
    return {
        tokens for tokens, place in zip(near, grid, strict=True) if tokens and abs(math.log(tokens / place)) < reach
    }


def _runs_at(points: Sequence[RunRecord], tokens: float) -> tuple[RunRecord, ...]:
    """Each run that reaches `tokens`, with its loss there (log-log between its points)."""
    curves: dict[str, list[RunRecord]] = defaultdict(list)
    for point in points:
        curves[point.run_id].append(point)
    found = [_read(curve, tokens) for curve in curves.values()]
    return tuple(run for run in found if run is not None)


def _read(curve: Sequence[RunRecord], tokens: float) -> RunRecord | None:
    nearest = min(curve, key=lambda point: abs(math.log(_tokens(point) / tokens))) if len(curve) > 1 else curve[0]
    is_end = nearest is curve[-1]
    if _within(_tokens(nearest), tokens, tokens) and (is_end or nearest.schedule == "constant"):
        return nearest
    if curve[-1].schedule != "constant" or not _tokens(curve[0]) < tokens < _tokens(curve[-1]):
        return None
    logs = np.log([_tokens(point) for point in curve])
    loss = math.exp(float(np.interp(math.log(tokens), logs, np.log([_loss(point) for point in curve]))))
    flops = curve[-1].flops
    scaled = None if flops is None else flops * tokens / _tokens(curve[-1])
    return replace(curve[-1], tokens=tokens, loss=loss, flops=scaled, steps=None)


def _params(record: RunRecord) -> float:
    return _known(record.params, record, "params")


def _tokens(record: RunRecord) -> float:
    return _known(record.tokens, record, "tokens")


def _loss(record: RunRecord) -> float:
    return _known(record.loss, record, "loss")


def _known(value: float | None, record: RunRecord, column: str) -> float:
    if value is None:
        raise MissingColumnError(f"run {record.run_id!r} has no {column}; select() the records first")
    return value
