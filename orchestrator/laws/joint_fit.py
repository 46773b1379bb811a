"""One variant of the joint law, fitted to the runs of some cells."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.coordinates import coordinate
from orchestrator.laws.joint_form import LOSS_PARAMETERS, Form, JointTie, Sizes
from orchestrator.laws.optimum import OptimumFit
from orchestrator.laws.resample import unit_indices
from orchestrator.laws.result import Floats
from orchestrator.laws.selection import CellRuns, share_runs
from orchestrator.laws.surface import LOG_CURVATURE_PRIOR, SKEW_PRIOR
from orchestrator.laws.surface_descent import Errors, Prior, descend, likely_errors, robust_noise
from orchestrator.laws.surface_form import Ints, Observations, factor_of
from orchestrator.laws.varpro import SumOfPowers, VariableProjection

# A cell's best runs always count, so many for each of its parameters (as in optimum.py).
WINDOW_RUNS = 3
# A loss law for m needs so many cells and sizes: five parameters, and something to judge them by.
CELLS_FOR_LOSS, SIZES_FOR_LOSS = 8, 4


@dataclass(frozen=True, kw_only=True)
class JointData:
    """Everything of a table that the variants share: all runs, and where to start.

    `unit` (cells,) is the exchangeable unit of each cell: its scale where cells share runs.
    `offset` is E, 0 where the floors do not tell it; `loss_start` the loss law's free parameters.
    """

    settings: tuple[str, ...]
    sizes: Sizes
    everything: Observations
    above: Floats  # of each run: log loss above the lowest of its cell
    rank: Ints  # of each run in its cell, 0 the lowest
    usual_batch: Floats
    unit: Ints
    optima: OptimumFit
    cells: Ints  # which cells of the optima these are
    offset: float
    loss_start: Floats | None

    @property
    def centres(self) -> Floats:
        """Each cell's own optimum, (cells, settings), half-lives in tokens as the laws have them."""
        return self.in_tokens(self.optima.places.centre[self.cells])

    def in_tokens(self, steps: Floats) -> Floats:
        """Coordinates with the half-life in tokens, from those with it in steps."""
        return self._moved(steps, 1.0)

    def in_steps(self, tokens: Floats) -> Floats:
        """The inverse of `in_tokens`."""
        return self._moved(tokens, -1.0)

    def _moved(self, places: Floats, sign: float) -> Floats:
        moved = places.copy()
        if "beta2" in self.settings:
            known = "batch_tokens" in self.settings
            batch = places[:, self.settings.index("batch_tokens")] if known else self.usual_batch
            moved[:, self.settings.index("beta2")] += sign * batch
        return moved


@dataclass(frozen=True, kw_only=True)
class JointFit:
    """A fitted variant. `coefficients` are the laws', setting by setting; `used` numbers its cells."""

    form: Form
    tie: JointTie
    free: Floats
    errors: Errors
    used: Ints

    @property
    def coefficients(self) -> Floats:
        """The laws' coefficients at the middle of the cells, then their exponents."""
        return self.tie.coefficients(self.free)

    @property
    def shared(self) -> Floats:
        """The parameters that no single cell has: the loss law's where m is one, the laws', the surface's."""
        return self.free if self.form.parametric else self.free[self.tie.floors :]

    def places(self, sizes: Sizes) -> Floats:
        """The laws at these sizes, (cells, settings); half-lives in tokens."""
        columns = [
            sizes.design(terms) @ self.coefficients[part]
            for terms, part in zip(self.form.terms, self.tie.laws, strict=True)
        ]
        return np.column_stack(columns)


def joint_data(optima: OptimumFit, kept: Ints) -> JointData:
    """The runs of these cells, and a first guess of the loss law through their floors."""
    cells = [optima.cells[int(number)] for number in kept]
    runs = [(number, run) for number, cell in enumerate(cells) for run in cell.runs]
    number = np.array([at for at, _ in runs])
    log_loss = np.array([math.log(run.loss or math.nan) for _, run in runs])
    above, rank = np.empty(log_loss.size), np.empty(log_loss.size, dtype=np.int64)
    for at in range(len(cells)):
        mine = np.flatnonzero(number == at)
        above[mine] = log_loss[mine] - log_loss[mine].min()
        rank[mine[np.argsort(log_loss[mine], kind="stable")]] = np.arange(mine.size)
    logs = np.log([[cell.params, cell.tokens] for cell in cells])
    middle = (float(logs[:, 0].mean()), float(logs[:, 1].mean()))
    scale = np.array([cell.scale for cell in cells])
    sizes = Sizes(log_params=logs[:, 0], log_tokens=logs[:, 1], middle=middle)
    offset, start = _loss_law(sizes, np.exp(optima.surface.floor[kept]))
    return JointData(
        settings=optima.settings,
        sizes=sizes,
        everything=Observations(
            coordinates=np.array([[coordinate(run, name) for name in optima.settings] for _, run in runs]),
            log_loss=log_loss,
            cell=number,
            run=unit_indices([run.run_id for _, run in runs]),
        ),
        above=above,
        rank=rank,
        usual_batch=np.array([_usual_batch(cell) for cell in cells]),
        unit=scale if share_runs(cells) else np.arange(len(cells)),
        optima=optima,
        cells=kept,
        offset=offset,
        loss_start=start,
    )


def fit_form(data: JointData, form: Form, used: Ints, start: JointFit | None = None) -> JointFit:
    """Fit a variant to the runs of the used cells, from a fit to more cells where there is one."""
    tie = JointTie(form, data.settings, data.sizes[used], data.usual_batch[used])
    runs = _observations(data, form, used)
    free = _first(data, tie, form, used) if start is None else _again(start, used)
    prior, renew = _prior(tie, free, len(data.settings)), robust_noise(runs, tie)
    if start is not None:
        free, errors = descend(runs, free, tie, prior, start.errors, renew=renew)
        return JointFit(form=form, tie=tie, free=free, errors=errors, used=used)
    surface = data.optima.surface
    free, _ = descend(runs, free, tie, prior, Errors(noise=3 * surface.noise, misfit=surface.misfit), renew=renew)
    free, errors = descend(runs, free, tie, prior, likely_errors(runs, free, tie), renew=renew)
    return JointFit(form=form, tie=tie, free=free, errors=errors, used=used)


def _observations(data: JointData, form: Form, used: Ints) -> Observations:
    """The used cells' runs within the window, cells numbered anew."""
    number = np.full(data.sizes.log_params.size, -1)
    number[used] = np.arange(used.size)
    least = WINDOW_RUNS * (1 + len(data.settings))
    everything = data.everything
    rows = np.flatnonzero((number[everything.cell] >= 0) & ((data.above <= form.window) | (data.rank < least)))
    stretch = _stretch(data)[everything.cell[rows]] if form.relative else 1.0
    return Observations(
        coordinates=everything.coordinates[rows],
        log_loss=everything.log_loss[rows],
        cell=number[everything.cell[rows]],
        run=everything.run[rows],
        stretch=stretch,
    )


def _stretch(data: JointData) -> Floats:
    """The reducible part of each cell's loss, (L - E) / L, relative to the mean."""
    reducible = 1 - data.offset / np.exp(data.optima.surface.floor[data.cells])
    return np.asarray(reducible / reducible.mean())


def _first(data: JointData, tie: JointTie, form: Form, used: Ints) -> Floats:
    surface, settings = data.optima.surface, len(data.settings)
    floors = surface.floor[data.cells[used]] if data.loss_start is None or not form.parametric else data.loss_start
    centres, known = data.centres[used], data.optima.places.side[data.cells[used]] == 0
    coefficients = [
        _line(data.sizes[used].design(terms), centres[:, number], known[:, number])
        for number, terms in enumerate(form.terms)
    ]
    lower = np.linalg.cholesky(surface.curvature)
    pooled = np.concatenate(
        [np.log(np.diag(lower)), lower[np.tril_indices(settings, -1)], [surface.skew if form.skewed else 0.0]]
    )
    return tie.pack(floors, np.concatenate(coefficients), pooled)


def _line(design: Floats, value: Floats, known: np.ndarray) -> Floats:
    rows = known if known.sum() > design.shape[1] else np.ones_like(known)
    return np.asarray(np.linalg.lstsq(design[rows], value[rows], rcond=None)[0])


def _again(start: JointFit, used: Ints) -> Floats:
    """The parameters of a fit to more cells, less the floors of the cells left out."""
    if start.form.parametric:
        return start.free.copy()
    kept = np.searchsorted(start.used, used)
    return np.concatenate([start.free[: start.tie.floors][kept], start.free[start.tie.floors :]])


def _prior(tie: JointTie, start: Floats, settings: int) -> Prior:
    """Weak ones on what all cells share: curvature near its start, skew near none."""
    precision = np.zeros(tie.size)
    pooled = tie.floors + tie.coefficients(start).size
    precision[pooled : pooled + settings] = 1 / LOG_CURVATURE_PRIOR**2
    below = settings * (settings - 1) // 2
    scale = np.exp(2 * start[pooled : pooled + settings].mean())
    precision[pooled + settings : pooled + settings + below] = 1 / (LOG_CURVATURE_PRIOR**2 * scale)
    precision[pooled + settings + below :] = 1 / SKEW_PRIOR**2
    mean = start.copy()
    mean[pooled + settings :] = 0.0
    return Prior(mean=mean, precision=precision)


def curvature_of(fit: JointFit, settings: int) -> tuple[Floats, float]:
    """The pooled curvature (k, k), in coordinates with the half-life in steps, and the skew."""
    pooled = fit.free[fit.tie.floors + fit.coefficients.size :]
    full = pooled if fit.form.skewed else np.append(pooled, 0.0)
    factor = factor_of(full, settings)
    return factor @ factor.T, float(full[-1])


def _usual_batch(cell: CellRuns) -> float:
    return float(np.median([math.log(run.batch_tokens or 1.0) for run in cell.runs]))


def _loss_law(sizes: Sizes, floors: Floats) -> tuple[float, Floats | None]:
    """E, and the loss law's parameters as the tie has them; (0, None) where there are too few floors."""
    shapes = np.unique(np.round(sizes.log_params, 3)).size
    horizons = np.unique(np.round(sizes.log_tokens, 3)).size
    if floors.size < CELLS_FOR_LOSS or min(shapes, horizons) < SIZES_FOR_LOSS:
        return 0.0, None
    x, y = sizes.design(("params", "tokens"))[:, 1:].T
    best = VariableProjection(SumOfPowers(quantities=np.exp([x, y]), loss=floors, shared=(0, 1))).best
    parts = np.log(np.maximum([best.offset[0], *best.coefficients[0]], 1e-8))
    start = np.concatenate([parts, best.exponents[0]])
    offset = 0.0 if best.offset_absent[0] else float(best.offset[0])
    return offset, None if start.size != LOSS_PARAMETERS else start
