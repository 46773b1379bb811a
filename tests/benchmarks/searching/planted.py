"""Random planted laws as surfaces to search: what the constants of a sampler may be chosen on.

log loss = log floor + w·H·w / 2, where w is the distance from the cell's optimum in the natural logarithms of
learning rate, batch tokens and beta2's half-life in steps, the learning rate's own part bent by one of several
forms. Ranges of the random numbers are guesses of a realistic size; Step Law's table did not enter them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from searching.surface import Cell, Settings

Floats = npt.NDArray[np.float64]

# Log loss above the floor grows no further: a run that learned nothing.
MOST_EXCESS = 1.0
BREAKS_AT = 4  # number of the first cell behind the break: the fifth
_LEVELS = 21  # of a grid from which the best of a space that lacks the optimum is looked for


class Kind(StrEnum):
    """In what way the law holds."""

    LAWFUL = "lawful"  # power laws, with scatter from cell to cell
    BENT = "bent"  # the best learning rate is no power law: its logarithm is curved over the ladder
    EDGE = "edge"  # the space is the same for all cells, and the optima drift out of it
    BREAK = "break"  # from the fifth cell on, the best learning rate is another by a factor


def _skew(u: Floats, k: float) -> Floats:
    """The form that the laws fit: exp(k u) - 1 - k u is its square over two, times k squared."""
    place = np.clip(k * u, -20, 20)
    return np.asarray(np.sign(u) * np.sqrt(2 * (np.expm1(place) - place)) / abs(k))


def _two_sided(u: Floats, k: float) -> Floats:
    return np.where(u > 0, (1 + k) * u, u)


def _wall(u: Floats, k: float) -> Floats:
    return np.asarray(u + k * np.maximum(u - 0.7, 0) ** 2)


def _cliff(u: Floats, k: float) -> Floats:
    return np.asarray(u + 2.5 / (1 + np.exp(-np.clip((u - 1 - 0.5 * k) / 0.08, -50, 50))))


def _flattening(u: Floats, k: float) -> Floats:
    return np.asarray(np.where(u > 0, u, k * np.arcsinh(u / k)))


def _falling(u: Floats, k: float) -> Floats:
    return _skew(u, -k)


# Of the learning rate; only the first is the one that the laws know. Each is zero at zero and rises. k is 0.4 to 1.2.
FORMS: tuple[Callable[[Floats, float], Floats], ...] = (_skew, _two_sided, _wall, _cliff, _flattening, _falling)


@dataclass(frozen=True, kw_only=True)
class Excess:
    """Log loss above the floor by the offset from the optimum (..., settings), learning rate first."""

    form: int  # number in FORMS
    bending: float
    curvature: Floats

    def __call__(self, offset: Floats, steepness: float) -> Floats:
        bent = np.array(offset, dtype=float)
        bent[..., 0] = FORMS[self.form](bent[..., 0], self.bending)
        excess = 0.5 * steepness * np.einsum("...i,ij,...j", bent, self.curvature, bent)
        return np.asarray(np.minimum(excess, MOST_EXCESS))


@dataclass(frozen=True, kw_only=True)
class PlantedCell:
    """Optimum and bounds in logarithms; the best excess of the space is zero where it holds the optimum."""

    params: float
    tokens: float
    optimum: Floats
    low: Floats
    high: Floats
    floor: float
    steepness: float


class PlantedSurface:
    """Cells of one planted law; `planted` draws one."""

    def __init__(self, cells: Sequence[PlantedCell], excess: Excess) -> None:
        self._planted = {(cell.params, cell.tokens): cell for cell in cells}
        self._excess = excess
        self._best = {size: _best(cell, excess) for size, cell in self._planted.items()}
        self.cells = tuple(Cell(params=cell.params, tokens=cell.tokens, ranges=_ranges(cell)) for cell in cells)

    def evaluate(self, params: float, tokens: float, settings: Settings) -> float:
        """Loss without noise; see Surface."""
        return self._planted[params, tokens].floor * math.exp(self._excess_at(params, tokens, settings))

    def regret(self, params: float, tokens: float, settings: Settings) -> float:
        """Relative loss above the best of the cell's space; see Surface."""
        return math.expm1(self._excess_at(params, tokens, settings) - self._best[params, tokens])

    def optimum(self, params: float, tokens: float) -> Settings:
        """The planted settings, which the space of the cell may lack."""
        return _settings(self._planted[params, tokens].optimum)

    def _excess_at(self, params: float, tokens: float, settings: Settings) -> float:
        cell = self._planted[params, tokens]
        return float(self._excess(_place(settings) - cell.optimum, cell.steepness))


@lru_cache(maxsize=64)
def planted(kind: Kind, seed: int) -> PlantedSurface:
    """A surface of the kind: 8 to 17 cells, two settings or three, forms of the learning rate in turn."""
    rng = np.random.default_rng([seed, list(Kind).index(kind)])
    settings = 2 + (seed // len(FORMS) + seed) % 2
    sizes = _sizes(rng)
    optima = _optima(rng, sizes, settings, kind)
    low, high = _bounds(rng, optima, kind)
    excess = Excess(form=seed % len(FORMS), bending=rng.uniform(0.4, 1.2), curvature=_curvature(rng, settings))
    steepness = np.exp(0.1 * rng.standard_normal(len(sizes)) + rng.uniform(-0.2, 0.2) * _progress(sizes))
    cells = [
        PlantedCell(
            params=params,
            tokens=tokens,
            optimum=optima[number],
            low=low[number],
            high=high[number],
            floor=1.7 + 2.0 * (params / 1e6) ** -0.3 + 1.5 * (tokens / 1e7) ** -0.3,
            steepness=float(steepness[number]),
        )
        for number, (params, tokens) in enumerate(sizes)
    ]
    return PlantedSurface(cells, excess)


def _sizes(rng: np.random.Generator) -> list[tuple[float, float]]:
    """Params and tokens of a ladder along 20 tokens per parameter, or of one with two or three horizons a scale."""
    ratios = ([20.0], [5.0, 40.0], [4.0, 20.0, 100.0])[rng.integers(3)]
    scales = {1: rng.integers(8, 13), 2: rng.integers(4, 8), 3: rng.integers(4, 6)}[len(ratios)]
    params = np.geomspace(1e6, 1e6 * rng.uniform(1.6, 2.2) ** (scales - 1), scales)
    sizes = [(float(round(count)), float(round(count * ratio))) for count in params for ratio in ratios]
    return sorted(sizes, key=lambda size: size[0] * size[1])


def _progress(sizes: Sequence[tuple[float, float]]) -> Floats:
    """Zero at the smallest cell, one at the largest, by the logarithm of FLOP."""
    logs = np.log([params * tokens for params, tokens in sizes])
    return np.asarray((logs - logs[0]) / (logs[-1] - logs[0]))


def _optima(rng: np.random.Generator, sizes: Sequence[tuple[float, float]], settings: int, kind: Kind) -> Floats:
    """Logarithms of the planted settings, (cells, settings)."""
    logs = np.log(np.array(sizes) / [1e6, 2e7])
    rate = math.log(rng.uniform(2e-3, 2e-2)) + logs @ [rng.uniform(-0.8, -0.1), rng.uniform(-0.25, 0.35)]
    batch = math.log(rng.uniform(4e3, 3e4)) + logs @ [rng.uniform(-0.1, 0.3), rng.uniform(0.2, 0.7)]
    half_life = math.log(rng.uniform(30, 200)) + logs @ [rng.uniform(-0.1, 0.2), rng.uniform(-0.1, 0.3)]
    if kind is Kind.BENT:
        progress = _progress(sizes)
        rate = rate + rng.choice([-1, 1]) * rng.uniform(0.3, 0.8) * 4 * progress * (1 - progress)
    if kind is Kind.BREAK:
        rate[BREAKS_AT:] += rng.choice([-1, 1]) * math.log(rng.uniform(2.5, 5))
    optima = np.stack([rate, batch, half_life], axis=1)[:, :settings]
    scatter = rng.uniform(0, [0.15, 0.3, 0.4])[:settings]
    return np.asarray(optima + scatter * rng.standard_normal(optima.shape))


def _bounds(rng: np.random.Generator, optima: Floats, kind: Kind) -> tuple[Floats, Floats]:
    """Lowest and highest logarithms of each cell: one space for all, or one that follows the ladder roughly."""
    line = np.linspace(optima[0], optima[-1], len(optima))
    followed = 0.0 if kind is Kind.EDGE else rng.choice([0.0, 0.8])
    centre = followed * line
    rest = optima - centre
    low = rest.min(axis=0) - rng.uniform(0.7, 1.5, optima.shape[1])
    high = rest.max(axis=0) + rng.uniform(0.7, 1.5, optima.shape[1])
    if kind is Kind.EDGE:
        drift = optima[-1] - optima[0]
        axis = int(np.argmax(np.abs(drift)))
        (high if drift[axis] > 0 else low)[axis] = optima[0, axis] + 0.65 * drift[axis]
    return centre + low, centre + high


def _curvature(rng: np.random.Generator, settings: int) -> Floats:
    """A positive definite matrix: relative loss per squared e-fold, correlated by up to 0.6."""
    spread = np.sqrt(np.exp(rng.uniform(np.log([0.006, 0.004, 0.0008]), np.log([0.03, 0.025, 0.005]))))[:settings]
    while True:
        correlation = np.eye(settings)
        below = np.tril_indices(settings, -1)
        correlation[below] = rng.uniform(-0.6, 0.6, len(below[0]))
        correlation = correlation + np.tril(correlation, -1).T
        if np.linalg.eigvalsh(correlation)[0] > 0.1:
            return np.asarray(correlation * np.outer(spread, spread))


def _best(cell: PlantedCell, excess: Excess) -> float:
    if np.all((cell.low <= cell.optimum) & (cell.optimum <= cell.high)):
        return 0.0
    axes = [np.linspace(*ends, _LEVELS) for ends in zip(cell.low, cell.high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    start = grid[np.argmin(excess(grid - cell.optimum, cell.steepness))]

    def scaled(place: Floats) -> float:
        return 1e3 * float(excess(place - cell.optimum, cell.steepness))

    found = minimize(
        scaled,
        start,
        bounds=list(zip(cell.low, cell.high, strict=True)),
        method="Powell",
        options={"xtol": 1e-6, "ftol": 1e-9},
    )
    return min(float(excess(place - cell.optimum, cell.steepness)) for place in (found.x, start))


def _place(settings: Settings) -> Floats:
    place = [math.log(settings["learning_rate"]), math.log(settings["batch_tokens"])]
    if "beta2" in settings:
        place.append(math.log(math.log(2) / -math.log(settings["beta2"])))
    return np.array(place)


def _settings(place: Floats) -> Settings:
    settings = {"learning_rate": math.exp(place[0]), "batch_tokens": math.exp(place[1])}
    if len(place) > 2:
        settings["beta2"] = 2 ** -math.exp(-place[2])
    return settings


def _ranges(cell: PlantedCell) -> dict[str, tuple[float, float]]:
    low, high = _settings(cell.low), _settings(cell.high)
    return {name: (low[name], high[name]) for name in low}
