"""The named designs: what is planted, which laws are fitted to it, and for which of them it is well-posed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import numpy as np
from calibrating import truths
from calibrating.truths import Checks
from planted_batches import KAPLAN, make_curves, runs_at_batches
from planted_settings import make_sweep
from planted_tables import HOFFMANN, MUENNIGHOFF, hoffmann, isoflop_runs, ladder_runs, repeated_runs, with_errors

from orchestrator.laws import (
    chinchilla,
    compute_only,
    data_constrained,
    frontier,
    kaplan_c,
    kaplan_d,
    kaplan_n,
    kaplan_nd,
    kaplan_ns,
    overtraining,
)
from orchestrator.laws.records import RunRecord

Table = Callable[[int], list[RunRecord]]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is checked of a law in a design; `well_posed` where the design can carry it, so that `weak` is an error."""

    checks: Checks
    well_posed: bool = True


@dataclass(frozen=True, kw_only=True)
class Design:
    """A named way to make sweeps from a seed. `share` of the sweeps: less where a sweep takes long."""

    name: str
    table: Table
    laws: Mapping[str, Judged]
    share: float = 1.0


def _loss(law: ModuleType, planted: Mapping[str, float], names: str, *target: float) -> Checks:
    """The named parameters of a law's module, and the loss that its formula has at a target."""
    return truths.formulas(planted, names.split(), loss=lambda parameters: law.loss(parameters, *target))


def _hoffmann_ladder(seed: int, *, scales: int, horizons: int, noise: float, curves: bool) -> list[RunRecord]:
    """HOFFMANN's surface from 2e6 to 3e8 params at 4 to 160 tokens per param."""
    sizes, ratios = np.geomspace(2e6, 3e8, scales), np.geomspace(4, 160, horizons)
    rng = np.random.default_rng(seed)
    return ladder_runs(rng, hoffmann, params=sizes, tokens=lambda n: n * ratios, noise=noise, curves=curves)


def _hoffmann_curves(seed: int, *, noise: float = 0.003) -> list[RunRecord]:
    """Long curves of ten sizes."""
    sizes, ratios = np.geomspace(2e6, 3e8, 10), np.geomspace(*CURVE_RATIOS, 15)
    rng = np.random.default_rng(seed)
    return ladder_runs(rng, hoffmann, params=sizes, tokens=lambda n: n * ratios, noise=noise, curves=True)


def _static_curves(seed: int) -> list[RunRecord]:
    ratios = np.geomspace(*STATIC_RATIOS, 12)
    rng = np.random.default_rng(seed)
    return ladder_runs(rng, hoffmann, params=STATIC_SIZES, tokens=lambda n: n * ratios, noise=0.003, curves=True)


def _hoffmann_isoflops(seed: int, *, noise: float = 0.002) -> list[RunRecord]:
    """Nine sizes by factors of 2^(1/2) at each of six budgets from 1e17 to 1e20 FLOP."""
    return isoflop_runs(
        np.random.default_rng(seed),
        hoffmann,
        flops=np.geomspace(1e17, 1e20, 6),
        centre=lambda flops: float(chinchilla.optimal_params(HOFFMANN, flops)),
        shifts=np.log(2) / 2 * (np.arange(9) - 4),
        noise=noise,
        off_centre=0.2,
    )


def _valleys(seed: int, lowest: Callable[[float], float], *, noise: float, budgets: int, flops: tuple[float, float]):
    """Seven sizes a budget around N = (C / 120)^(1/2); the loss rises by 1 % at a factor of e from there."""

    def surface(params: float, tokens: float) -> float:
        compute = 6 * params * tokens
        return lowest(compute) * (1 + 0.01 * np.log(params / np.sqrt(compute / 120)) ** 2)

    return isoflop_runs(
        np.random.default_rng(seed),
        surface,
        flops=np.geomspace(*flops, budgets),
        centre=lambda compute: np.sqrt(compute / 120),
        shifts=np.linspace(-1.2, 1.2, 7),
        noise=noise,
        off_centre=0.15,
    )


def _kaplan(
    seed: int, *, params: tuple[float, float], tokens: tuple[float, float], noise: float = 0.005, curves: bool = False
) -> list[RunRecord]:
    """Eight sizes at eight token counts each, on Kaplan's surface."""
    counts = np.geomspace(*tokens, 8)
    return ladder_runs(
        np.random.default_rng(seed),
        lambda n, d: float(kaplan_nd.loss(truths.KAPLAN_SURFACE, n, d)),
        params=np.geomspace(*params, 8),
        tokens=lambda _: counts,
        noise=noise,
        curves=curves,
    )


def _gadre(seed: int, *, sizes: int, ratios: int, curves: bool, noise: float = 0.005) -> list[RunRecord]:
    """Sizes from 1e7 to 1e9 at 5 to 640 tokens per param, with downstream errors."""
    rng = np.random.default_rng(seed)
    runs = ladder_runs(
        rng,
        lambda n, d: float(overtraining.loss(truths.GADRE_LOSS, 6 * n * d, d / n)),
        params=np.geomspace(1e7, 1e9, sizes),
        tokens=lambda n: n * np.geomspace(5, 640, ratios),
        noise=noise,
        curves=curves,
    )
    return with_errors(rng, runs, truths.GADRE_ERROR, scatter=0.005)


def _guo(params: float, tokens: float) -> float:
    return float(compute_only.loss(truths.GUO, 6 * params * tokens))


def _guo_isoflops(seed: int) -> list[RunRecord]:
    return isoflop_runs(
        np.random.default_rng(seed),
        _guo,
        flops=np.geomspace(1e17, 1e20, 6),
        centre=lambda flops: np.sqrt(flops / 120),
        shifts=np.linspace(-1.2, 1.2, 5),
        noise=0.005,
    )


def _guo_curves(seed: int) -> list[RunRecord]:
    ratios = np.geomspace(3, 300, 8)
    rng = np.random.default_rng(seed)
    sizes = np.geomspace(1e7, 1e9, 9)
    return ladder_runs(rng, _guo, params=sizes, tokens=lambda n: n * ratios, noise=0.005, curves=True)


CURVE_RATIOS = (1.0, 200.0)
STATIC_SIZES = np.geomspace(2e6, 1e8, 8)
STATIC_RATIOS = (1.0, 60.0)
FRONTIER = {"A": 1000.0, "alpha": 0.16, "E": 1.7}
# Ten times the largest size that is planted for Hoffmann's and Kaplan's surfaces, and as many tokens per param.
FAR = (3e9, 6e10)

DESIGNS: tuple[Design, ...] = (
    Design(
        name="hoffmann runs 7x6",
        table=partial(_hoffmann_ladder, scales=7, horizons=6, noise=0.005, curves=False),
        laws={"chinchilla": Judged(checks=truths.surface(*FAR))},
    ),
    Design(
        name="hoffmann runs 5x3",
        table=partial(_hoffmann_ladder, scales=5, horizons=3, noise=0.005, curves=False),
        laws={"chinchilla": Judged(checks=truths.surface(*FAR), well_posed=False)},
    ),
    Design(
        name="hoffmann curves 6x9",
        table=partial(_hoffmann_ladder, scales=6, horizons=9, noise=0.005, curves=True),
        laws={"chinchilla": Judged(checks=truths.surface(*FAR), well_posed=False)},
    ),
    Design(
        name="hoffmann curves 10x15",
        table=_hoffmann_curves,
        laws={
            "chinchilla": Judged(checks=truths.surface(*FAR)),
            "frontier": Judged(checks=truths.lowest_loss_of_surface(1e21), well_posed=False),
            "isoflop": Judged(
                checks=truths.exact_parabolas(partial(_hoffmann_curves, noise=0.0), 1e21), well_posed=False
            ),
            "isoflop-akima": Judged(checks=truths.size_exponent_by_own_noise, well_posed=False),
            "envelope": Judged(checks=truths.mean_envelope(_hoffmann_curves, 1e21)),
        },
    ),
    Design(
        name="static curves 8x12",
        table=_static_curves,
        laws={"adaptive": Judged(checks=truths.savings(STATIC_SIZES, STATIC_RATIOS))},
    ),
    Design(
        name="hoffmann isoflops 6x9",
        table=_hoffmann_isoflops,
        laws={
            "chinchilla": Judged(checks=truths.surface(1e10, 2e11), well_posed=False),
            "frontier": Judged(checks=truths.lowest_loss_of_surface(1e21), well_posed=False),
            "isoflop": Judged(checks=truths.exact_parabolas(partial(_hoffmann_isoflops, noise=0.0), 1e21)),
            "isoflop-akima": Judged(checks=truths.size_exponent_by_own_noise, well_posed=False),
        },
    ),
    Design(
        name="frontier 12x7",
        table=partial(
            _valleys, lowest=lambda c: float(frontier.loss(FRONTIER, c)), noise=0.001, budgets=12, flops=(1e15, 1e20)
        ),
        laws={"frontier": Judged(checks=truths.lowest_loss(FRONTIER, 1e21))},
    ),
    Design(
        name="kaplan frontier 10x7",
        table=partial(
            _valleys,
            lowest=lambda c: float(kaplan_c.loss(truths.KAPLAN_FRONTIER, c)),
            noise=0.002,
            budgets=10,
            flops=(1e16, 1e21),
        ),
        laws={"kaplan-c": Judged(checks=_loss(kaplan_c, truths.KAPLAN_FRONTIER, "alpha_C C_c", 1e22))},
    ),
    Design(
        name="kaplan converged runs 8x8",
        table=partial(_kaplan, params=(1e6, 3e8), tokens=(1e11, 1e13)),
        laws={"kaplan-n": Judged(checks=_loss(kaplan_n, truths.KAPLAN_SURFACE, "alpha_N N_c", 3e9))},
    ),
    Design(
        name="kaplan converged curves 8x8",
        table=partial(_kaplan, params=(1e6, 3e8), tokens=(1e11, 1e13), curves=True),
        laws={"kaplan-n": Judged(checks=_loss(kaplan_n, truths.KAPLAN_SURFACE, "alpha_N N_c", 3e9))},
    ),
    Design(
        name="kaplan large runs 8x8",
        table=partial(_kaplan, params=(1e10, 1e13), tokens=(2e7, 2e10)),
        laws={"kaplan-d": Judged(checks=_loss(kaplan_d, truths.KAPLAN_SURFACE, "alpha_D D_c", 2e11))},
    ),
    Design(
        name="kaplan runs 8x8",
        table=partial(_kaplan, params=(1e6, 1e9), tokens=(2e7, 2e10)),
        laws={
            "kaplan-nd": Judged(checks=_loss(kaplan_nd, truths.KAPLAN_SURFACE, "alpha_N alpha_D N_c D_c", 1e10, 2e11))
        },
    ),
    Design(
        name="kaplan curves 8x8",
        table=partial(_kaplan, params=(1e6, 1e9), tokens=(2e7, 2e10), curves=True),
        laws={
            "kaplan-nd": Judged(checks=_loss(kaplan_nd, truths.KAPLAN_SURFACE, "alpha_N alpha_D N_c D_c", 1e10, 2e11))
        },
    ),
    Design(
        name="batches 5x4",
        table=make_curves,
        laws={
            "critical-batch": Judged(checks=truths.batch(2.2)),
            "kaplan-ns": Judged(checks=_loss(kaplan_ns, KAPLAN, "alpha_N alpha_S N_c S_c", 6e8, 1e5), well_posed=False),
            "trajectory": Judged(checks=truths.curve(6e8, (300, 2e5), 3.0 * 2**17), well_posed=False),
        },
    ),
    Design(
        name="batches 6x6",
        table=partial(make_curves, sizes=6, batches=6, factor=2.5),
        laws={
            "critical-batch": Judged(checks=truths.batch(2.2)),
            "kaplan-ns": Judged(checks=_loss(kaplan_ns, KAPLAN, "alpha_N alpha_S N_c S_c", 6e8, 1e5)),
            "trajectory": Judged(checks=truths.curve(6e8, (300, 2e5), 3.0 * 2**17)),
        },
    ),
    Design(
        name="batches 9x4 of equal steps",
        table=runs_at_batches,
        laws={"kaplan-c": Judged(checks=truths.least_compute(1e21), well_posed=False)},
    ),
    Design(
        name="repeated runs 7x21",
        table=repeated_runs,
        laws={
            "data-constrained": Judged(
                checks=_loss(data_constrained, MUENNIGHOFF, "E A B alpha beta R_D R_N", 1e10, 6e9, 1.5e9)
            )
        },
        share=0.5,
    ),
    Design(
        name="gadre runs 6x5",
        table=partial(_gadre, sizes=6, ratios=5, curves=False),
        laws={
            "overtraining": Judged(checks=_loss(overtraining, truths.GADRE_LOSS, "a b eta E", 6 * 1e10 * 2e11, 20.0)),
            "downstream": Judged(checks=truths.downstream(6 * 1e10 * 2e11, 20)),
        },
    ),
    Design(
        name="gadre curves 8x8",
        table=partial(_gadre, sizes=8, ratios=8, curves=True),
        laws={
            "overtraining": Judged(checks=_loss(overtraining, truths.GADRE_LOSS, "a b eta E", 6 * 1e10 * 2e11, 20.0)),
            "downstream": Judged(checks=truths.downstream(6 * 1e10 * 2e11, 20)),
        },
    ),
    Design(
        name="guo isoflops 6x5",
        table=_guo_isoflops,
        laws={"compute-only": Judged(checks=_loss(compute_only, truths.GUO, "intercept slope", 1e21))},
    ),
    Design(
        name="guo curves 9x8",
        table=_guo_curves,
        laws={"compute-only": Judged(checks=_loss(compute_only, truths.GUO, "intercept slope", 1e22))},
    ),
    Design(
        name="settings, a run a cell",
        table=partial(make_sweep, truth=truths.SETTINGS, shared=False),
        laws={
            "hyperparameters": Judged(checks=truths.settings(3.84e7, 7.68e8)),
            "joint": Judged(checks=truths.settings(3.84e7, 7.68e8)),
            "chinchilla": Judged(checks=truths.tuned_surface(3.84e7, 7.68e8), well_posed=False),
        },
        share=0.35,
    ),
    Design(
        name="settings, runs shared",
        table=partial(make_sweep, truth=truths.SETTINGS, shared=True),
        laws={
            "hyperparameters": Judged(checks=truths.settings(3.84e7, 7.68e8)),
            "joint": Judged(checks=truths.settings(3.84e7, 7.68e8)),
            "chinchilla": Judged(checks=truths.tuned_surface(3.84e7, 7.68e8), well_posed=False),
        },
        share=0.35,
    ),
)
