"""What the cells measured so far say about the best settings of another one, before its first run.

One hierarchical surface for all runs: every cell's centre is a power law of its size plus its own
deviation, normal with a spread that is estimated; curvature and skew are shared (surface.py). Exponents
have wide normal priors around what the literature found, so that one cell is enough to begin with.
The answer is a belief: a normal distribution of the centre, in the settings' coordinates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np

from orchestrator.laws.coordinates import coordinate
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Floats
from orchestrator.laws.selection import CellRuns, group_cells, select
from orchestrator.laws.surface import LOG_CURVATURE_PRIOR, SKEW_PRIOR
from orchestrator.laws.surface_descent import Errors, Linear, Prior, descend, huber, keep_errors, normal_equations
from orchestrator.laws.surface_form import Observations, factor_of, jacobian_of, pooled_size, predicted_excess

# Exponents in params and tokens: mean and standard deviation over published laws (learning rate: Porian
# et al. 2024, Step Law 2025, Bjorck et al. 2024, DeepSeek 2024; batch: the first two, Power Lines 2025;
# half-life in tokens: constant, Marek et al. 2025), the deviations taken wide. Guesses.
EXPONENTS: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "learning_rate": ((-0.35, 0.3), (0.0, 0.3)),
    "batch_tokens": ((0.1, 0.3), (0.45, 0.3)),
    "beta2": ((0.0, 0.4), (0.2, 0.4)),
}
LEVEL_PRIOR = 4.0  # standard deviation of a setting's logarithm at the middle of the cells: says nothing
# Deviation of a cell's centre from the law: what is assumed before there are cells to tell it, in log
# units, and for how many cells that counts. Guesses.
DEVIATION, DEVIATION_CELLS = 0.15, 3.0
# Curvature of log loss for a factor e in a setting, as a rule between 0.003 and 0.03. Guess.
CURVATURE = 0.01
# Relative noise of a run before it is known, and for how many runs that counts. Guesses.
NOISE, NOISE_RUNS = 0.002, 4.0
MISFIT = 0.15  # part of a run's excess that the form may get wrong. A guess
UNKNOWN_FLOOR = 10.0  # standard deviation of log loss where nothing was measured
BEST_RUNS = 40  # of each cell count; more would only cost time
ROUNDS = 4


@dataclass(frozen=True, kw_only=True)
class Belief:
    """Where the centre of a cell is thought to be: mean (k,) and covariance (k, k) of its coordinates."""

    mean: Floats
    covariance: Floats


@dataclass(frozen=True, kw_only=True)
class Guide:
    """The fitted hierarchy. `coefficients` are the laws' (settings * 3,), centred on `middle`.

    Coordinates have beta2 by its half-life in steps, laws by its half-life in tokens.
    """

    settings: tuple[str, ...]
    middle: Floats
    coefficients: Floats
    covariance: Floats
    deviation: Floats
    pooled: Floats
    errors: Errors
    cells: int

    @property
    def curvature(self) -> Floats:
        """Of log loss at the centre, (k, k)."""
        factor = factor_of(self.pooled, len(self.settings))
        return factor @ factor.T

    def belief(self, params: float, tokens: float) -> Belief:
        """The centre of a cell of this size, with what is not known of the laws, and its own deviation."""
        to_steps = _to_steps(self.settings)
        design = np.kron(np.eye(len(self.settings)), _sizes([params], [tokens], self.middle))
        spread = design @ self.covariance @ design.T + np.diag(self.deviation**2)
        return Belief(mean=to_steps @ design @ self.coefficients, covariance=to_steps @ spread @ to_steps.T)


def fit_guide(records: Sequence[RunRecord], settings: Sequence[str]) -> Guide | None:
    """The hierarchy over these runs; None where no cell has as many runs as a surface has parameters."""
    cells = guiding_cells(records, settings)
    if max((len(cell.runs) for cell in cells), default=0) < len(settings) + 2:
        return None
    return Hierarchy(cells, settings).fit().guide


def guiding_cells(records: Sequence[RunRecord], settings: Sequence[str]) -> list[CellRuns]:
    """The cells of the completed runs that have all settings, each with its best runs."""
    values = attrgetter("loss", *settings)  # with the loss it is a tuple for one setting, too
    complete = [record for record in records if record.status == "completed" and None not in values(record)]
    usable = _best_of_each_size(complete)
    if not usable:
        return []
    return [_best(cell) for cell in group_cells(select(usable, ("params", "tokens", "loss"), law="the guide"))]


def _best_of_each_size(records: Sequence[RunRecord]) -> list[RunRecord]:
    """All that `_best` may leave of each size: looking closely at thousands of runs costs more than the fit."""
    of_size: defaultdict[tuple[float | None, ...], list[RunRecord]] = defaultdict(list)
    for record in records:
        of_size[record.params, record.tokens].append(record)
    return [record for runs in of_size.values() for record in _lowest(runs)]


def _lowest(runs: list[RunRecord]) -> list[RunRecord]:
    """The BEST_RUNS lowest losses, and those equal to the last of them."""
    if len(runs) <= BEST_RUNS:
        return runs
    losses = np.array([run.loss for run in runs])
    losses[~(losses > 0)] = np.inf  # select() refuses them
    highest = np.partition(losses, BEST_RUNS - 1)[BEST_RUNS - 1]
    return [runs[at] for at in np.flatnonzero(losses <= highest)]


def _best(cell: CellRuns) -> CellRuns:
    ranked = sorted(cell.runs, key=lambda run: (run.loss or math.inf, run.run_id))
    return replace(cell, runs=tuple(ranked[:BEST_RUNS]))


def _sizes(params: Sequence[float], tokens: Sequence[float], middle: Floats) -> Floats:
    """Rows (1, log params, log tokens), the logs less the middle."""
    logs = np.log(np.column_stack([params, tokens])) - middle
    return np.column_stack([np.ones(len(logs)), logs])


def _to_steps(settings: Sequence[str]) -> Floats:
    """Turns coordinates with the half-life in tokens into those with it in steps."""
    matrix = np.eye(len(settings))
    if "beta2" in settings and "batch_tokens" in settings:
        matrix[settings.index("beta2"), settings.index("batch_tokens")] = -1.0
    return matrix


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted hierarchy: the guide, all free parameters, and their precision."""

    guide: Guide
    free: Floats
    precision: Floats


class Hierarchy:
    """Free: floors (cells,), coefficients (settings * 3,), deviations (cells * settings,), what is shared.

    `planned` are sizes (params, tokens) of cells without runs, which come after the measured ones.
    """

    def __init__(
        self, cells: Sequence[CellRuns], settings: Sequence[str], planned: Sequence[tuple[float, float]] = ()
    ) -> None:
        self.settings, k = tuple(settings), len(settings)
        runs = [(number, run) for number, cell in enumerate(cells) for run in cell.runs]
        self.sizes = [(cell.params, cell.tokens) for cell in cells] + list(planned)
        self._measured, count = len(cells), len(cells) + len(planned)
        self._middle = np.log(self.sizes).mean(axis=0)
        self._data = Observations(
            coordinates=np.array([[coordinate(run, name) for name in settings] for _, run in runs]),
            log_loss=np.log([run.loss or math.nan for _, run in runs]),
            cell=np.array([number for number, _ in runs]),
            run=np.arange(len(runs)),
            total=count,
        )
        floors, coefficients, shared = count, 3 * k, pooled_size(k)
        self._parts = np.cumsum([0, floors, coefficients, count * k, shared])
        matrix = np.zeros((floors + count * k + shared, self._parts[-1]))
        matrix[:floors, :floors] = np.eye(floors)
        for cell, size in enumerate(self.sizes):
            rows = floors + cell * k + np.arange(k)
            design = np.kron(np.eye(k), _sizes([size[0]], [size[1]], self._middle))
            matrix[rows, self._parts[1] : self._parts[2]] = _to_steps(self.settings) @ design
            places = self._parts[2] + cell * k
            matrix[rows, places : places + k] = _to_steps(self.settings)
        matrix[-shared:, -shared:] = np.eye(shared)
        self.tie = Linear(matrix, np.zeros(matrix.shape[0]))

    def fit(self) -> Fitted:
        """Alternate between the surface and the sizes of noise and deviations."""
        deviation: Floats = np.full(len(self.settings), DEVIATION)
        errors = Errors(noise=NOISE, misfit=MISFIT)
        free = self._start()
        for _ in range(ROUNDS):
            prior = self._prior(deviation)
            free, _ = descend(self._data, free, self.tie, prior, errors, renew=keep_errors)
            normal = normal_equations(self._data, free, self.tie, prior, errors)[0]
            covariance: Floats = np.asarray(np.linalg.inv(normal))
            deviation = self._deviation(free, covariance)
            errors = Errors(noise=self._noise(free, errors, normal, prior), misfit=MISFIT)
        laws = slice(self._parts[1], self._parts[2])
        guide = Guide(
            settings=self.settings,
            middle=self._middle,
            coefficients=free[laws],
            covariance=covariance[laws, laws],
            deviation=deviation,
            pooled=free[self._parts[3] :],
            errors=errors,
            cells=self._measured,
        )
        return Fitted(guide=guide, free=free, precision=normal)

    def rows(self, fitted: Fitted, cell: int, places: Floats) -> Floats:
        """Slopes of log loss by the free parameters at places (n, k) of a cell, in units of a run's error."""
        data = Observations(
            coordinates=places,
            log_loss=np.zeros(len(places)),
            cell=np.full(len(places), cell),
            run=np.arange(len(places)),
            total=len(self.sizes),
        )
        theta = self.tie.expand(fitted.free)
        spread = fitted.guide.errors.spread(predicted_excess(data, theta))
        return np.asarray(self.tie.through(fitted.free, jacobian_of(data, theta, 1 / spread)))

    def centre_rows(self, cell: int) -> Floats:
        """Turns the free parameters into a cell's floor and centre, (1 + k, parameters)."""
        k, count = len(self.settings), len(self.sizes)
        places = [cell, *(count + cell * k + np.arange(k))]
        return self.tie.matrix[places]

    def _start(self) -> Floats:
        """Floors at the minima, levels at the mean of the cells' best runs, published exponents."""
        data, k = self._data, len(self.settings)
        first = np.array([np.flatnonzero(data.cell == cell)[0] for cell in range(self._measured)])
        free = self._prior_mean()
        free[: self._measured] = data.log_loss[first]
        best = data.coordinates[first].mean(axis=0)
        free[self._parts[1] : self._parts[2] : 3] = np.linalg.solve(_to_steps(self.settings), best)
        free[self._parts[3] : self._parts[3] + k] = 0.5 * math.log(CURVATURE)
        return free

    def _prior_mean(self) -> Floats:
        mean = np.zeros(self._parts[-1])
        laws = mean[self._parts[1] : self._parts[2]].reshape(-1, 3)
        laws[:, 1:] = [[each[0] for each in EXPONENTS[name]] for name in self.settings]
        return mean

    def _prior(self, deviation: Floats) -> Prior:
        k = len(self.settings)
        mean = self._start()
        mean[: self._parts[1]] = 0.0
        spread = np.full(mean.size, np.inf)
        spread[self._measured : self._parts[1]] = UNKNOWN_FLOOR
        laws = spread[self._parts[1] : self._parts[2]].reshape(-1, 3)
        laws[:, 0] = LEVEL_PRIOR
        laws[:, 1:] = [[each[1] for each in EXPONENTS[name]] for name in self.settings]
        spread[self._parts[2] : self._parts[3]] = np.tile(deviation, len(self.sizes))
        shared = spread[self._parts[3] :]
        shared[:k] = LOG_CURVATURE_PRIOR / 2
        shared[k:-1] = math.sqrt(CURVATURE)
        shared[-1] = SKEW_PRIOR
        return Prior(mean=mean, precision=1 / spread**2)

    def _deviation(self, free: Floats, covariance: Floats) -> Floats:
        """Of each setting: what the cells' deviations and their own errors say, and the guess for some cells."""
        part = slice(self._parts[2], self._parts[2] + self._measured * len(self.settings))
        squares = (free[part] ** 2 + np.diag(covariance)[part]).reshape(self._measured, -1).sum(axis=0)
        pooled = (squares + DEVIATION_CELLS * DEVIATION**2) / (self._measured + DEVIATION_CELLS)
        return np.asarray(np.sqrt(pooled))

    def _noise(self, free: Floats, errors: Errors, normal: Floats, prior: Prior) -> float:
        """By the parameters that the runs, not the priors, determine."""
        data = self._data
        theta = self.tie.expand(free)
        excess = predicted_excess(data, theta)
        spread = errors.spread(excess)
        residual = (theta[data.cell] + excess - data.log_loss) / spread
        weighted = huber(residual)[1] * residual**2
        spent = normal.shape[0] - float(np.trace(np.linalg.solve(normal, np.diag(prior.precision))))
        freedom = max(data.log_loss.size - spent, 0.0) + NOISE_RUNS
        return errors.noise * math.sqrt((float(weighted.sum()) + NOISE_RUNS * (NOISE / errors.noise) ** 2) / freedom)
