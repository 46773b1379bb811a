"""What each law should find in a planted sweep: parameters, and quantities at 4 to 30 times the largest scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import numpy as np
from calibrating.checks import Check, Kind, of_formula, of_parameters
from planted_batches import KAPLAN
from planted_settings import Truth as Settings
from planted_tables import HOFFMANN

from orchestrator.laws import (
    allocation,
    chinchilla,
    critical_batch,
    envelope,
    frontier,
    isoflop,
    kaplan_c,
    kaplan_consequences,
    overtraining,
    trajectory,
)
from orchestrator.laws import downstream as errors
from orchestrator.laws.loss_points import Parameters
from orchestrator.laws.predicted_settings import predicted_settings, settings_at
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Estimate, FittedLaw, Floats
from orchestrator.laws.traversal import Shape, traverse

# What a law says of the sweep that a seed makes, beside the truth.
Checks = Callable[[int, FittedLaw], list[Check]]
Table = Callable[[int], Sequence[RunRecord]]

KAPLAN_SURFACE = {"alpha_N": 0.076, "alpha_D": 0.103, "N_c": 6.4e13, "D_c": 1.8e13}
KAPLAN_FRONTIER = {"alpha_C": 0.057, "C_c": 1.6e7 * 8.64e19}  # Kaplan et al. 2020: 1.6e7 PF-days
GADRE_LOSS = {"a": 212.2, "b": 366.7, "eta": 0.1364, "E": 1.837}
GADRE_ERROR = {"k": 2.206, "gamma": 0.715, "epsilon": 0.857}
GUO = {"intercept": 6.5, "slope": 0.09}
SETTINGS = Settings()
SIZE_EXPONENT = HOFFMANN["beta"] / (HOFFMANN["alpha"] + HOFFMANN["beta"])
# Sweeps whose mean is what a biased estimator estimates: its error is then a fifth of one sweep's.
REFERENCE_SWEEPS = 25


def formulas(planted: Parameters, names: Sequence[str], **quantities: Callable[[Parameters], Floats]) -> Checks:
    """The named parameters of a law, and quantities that are formulas of them."""
    parameters = {name: float(planted[name]) for name in names}
    return lambda _, law: of_parameters(law, parameters) + of_formula(law, planted, quantities)


def surface(params: float, tokens: float, planted: Mapping[str, float] = HOFFMANN) -> Checks:
    """`chinchilla`: the surface, the loss at a target, and the best size for the target's compute."""
    planted = {**planted, "a": planted["beta"] / (planted["alpha"] + planted["beta"])}
    return formulas(
        planted,
        tuple(planted),
        loss=lambda p: chinchilla.loss(p, params, tokens),
        params=lambda p: chinchilla.optimal_params(p, 6 * params * tokens),
    )


def tuned_surface(params: float, tokens: float) -> Checks:
    """`chinchilla` through the tuned envelope of SETTINGS: its floors are such a surface."""
    planted = {"E": 1.8, "A": 2.0 * 1e6**0.3, "B": 1.5 * 1e7**0.3, "alpha": 0.3, "beta": 0.3}
    return surface(params, tokens, planted)


def lowest_loss(planted: Mapping[str, float], flops: float) -> Checks:
    """`frontier`: its parameters, and the lowest loss at a compute."""
    return formulas(planted, tuple(planted), loss=lambda p: frontier.loss(p, flops))


def lowest_loss_of_surface(flops: float) -> Checks:
    """`frontier` on HOFFMANN's surface: the lowest loss is A C^-alpha + E there too."""
    alpha = HOFFMANN["alpha"] * SIZE_EXPONENT
    best = chinchilla.optimal_params(HOFFMANN, flops), chinchilla.optimal_tokens(HOFFMANN, flops)
    above = float(chinchilla.loss(HOFFMANN, *best)) - HOFFMANN["E"]
    return lowest_loss({"A": above * flops**alpha, "alpha": alpha, "E": HOFFMANN["E"]}, flops)


def _allocation(planted: Mapping[str, float], law: FittedLaw, flops: float) -> list[Check]:
    best = {"params": allocation.optimal_params, "tokens": allocation.optimal_tokens}
    quantities = {name: partial(formula, flops=flops) for name, formula in best.items()}
    return of_parameters(law, planted) + of_formula(law, planted, quantities)


def exact_parabolas(exact: Table, flops: float) -> Checks:
    """`isoflop`, which its design biases, judged by what it finds in the same table without noise."""

    @cache
    def planted(seed: int) -> Mapping[str, float]:
        return _values(isoflop.fit(exact(seed), draws=2))

    return lambda seed, law: _allocation(planted(seed), law, flops)


def mean_envelope(table: Table, flops: float) -> Checks:
    """`envelope`, which design and noise bias, judged by the mean of what it finds in other sweeps."""

    @cache
    def planted() -> Mapping[str, float]:
        found = [_values(envelope.fit(table(seed), draws=2)) for seed in range(REFERENCE_SWEEPS)]
        return {name: _mean(name, np.array([values[name] for values in found])) for name in found[0]}

    return lambda _, law: _allocation(planted(), law, flops)


def _mean(name: str, values: Floats) -> float:
    return float(np.exp(np.log(values).mean()) if name in allocation.COEFFICIENTS else values.mean())


def size_exponent_by_own_noise(_: int, law: FittedLaw) -> list[Check]:
    """`isoflop-akima`: its own intervals are the published ones; those from the table's noise stand beside them."""
    (row,) = (row for row in law.tables["noise_rules"] if row["rule"] == "measured")
    told = Estimate(value=row["a"], low=row["low"], high=row["high"])
    return [Check(kind=Kind.PARAMETER, name="a", truth=SIZE_EXPONENT, told=told)]


def savings(sizes: Sequence[float], tokens_per_param: tuple[float, float]) -> Checks:
    """`adaptive` on HOFFMANN's surface: what changing the shape saves down to the law's own last loss."""
    shapes = [_shape(size, tokens_per_param) for size in sizes]

    def checks(_: int, law: FittedLaw) -> list[Check]:
        lowest, highest = law.valid["loss"]
        way = traverse(shapes, np.geomspace(highest, lowest, 2000))
        columns = {"saved": way.saved, "flops": way.flops, "static_flops": way.static_flops}
        return of_parameters(law, {name: float(column[0, -1]) for name, column in columns.items()})

    return checks


def _shape(size: float, tokens_per_param: tuple[float, float]) -> Shape:
    """At a fixed size the surface is a shape's curve with d = 0."""
    first, last = (6 * size**2 * ratio for ratio in tokens_per_param)
    curve = {
        "a": HOFFMANN["B"] * (6 * size) ** HOFFMANN["beta"],
        "b": HOFFMANN["beta"],
        "c": HOFFMANN["E"] + HOFFMANN["A"] * size ** -HOFFMANN["alpha"],
        "d": 0.0,
    }
    parameters = {name: np.array([value]) for name, value in curve.items()}
    return Shape(params=size, flops_per_token=6 * size, first_flops=first, last_flops=last, parameters=parameters)


def least_compute(flops: float) -> Checks:
    """`kaplan-c` of runs at several batch sizes: the frontier in C_min, which KAPLAN's constants imply."""
    planted = {
        "alpha_C_min": float(kaplan_consequences.compute_exponent(KAPLAN)),
        "C_c_min": float(kaplan_consequences.compute_constant(KAPLAN)),
    }

    def loss(parameters: Parameters) -> Floats:
        return kaplan_c.loss({"alpha_C": parameters["alpha_C_min"], "C_c": parameters["C_c_min"]}, flops)

    def checks(_: int, law: FittedLaw) -> list[Check]:
        told = of_formula(law, planted, {"loss": loss}) if "C_c_min" in law.parameters else []
        return of_parameters(law, planted) + told

    return checks


def batch(loss: float) -> Checks:
    """`critical-batch`: its line, read at a loss below those measured."""
    return formulas(KAPLAN, ("B_star", "alpha_B"), critical_batch=lambda p: critical_batch.critical_batch(p, loss))


def curve(params: float, steps: tuple[float, float], batch_tokens: float) -> Checks:
    """`trajectory`: early and late on the curve of an unseen size at an unseen batch size."""
    first, last = steps
    return formulas(
        KAPLAN,
        trajectory.PARAMETERS,
        early=lambda p: trajectory.loss(p, params, first, batch_tokens),
        late=lambda p: trajectory.loss(p, params, last, batch_tokens),
    )


def downstream(flops: float, tokens_per_param: float) -> Checks:
    """`downstream`: the error at the loss that a compute and split truly reach."""
    loss = overtraining.loss(GADRE_LOSS, flops, tokens_per_param)
    return formulas(GADRE_ERROR, tuple(GADRE_ERROR), error=lambda p: errors.error(p, loss))


def settings(params: float, tokens: float) -> Checks:
    """`hyperparameters` and `joint`: the exponents that were fitted, and the best settings of a target."""
    exponents = {
        "learning_rate": SETTINGS.learning_rate,
        "batch_tokens": SETTINGS.batch_tokens,
        "beta2_half_life": SETTINGS.half_life,
    }
    planted = {
        f"{name}.{term}_exponent": value
        for name, pair in exponents.items()
        for term, value in zip(("params", "tokens"), pair, strict=True)
    }
    rate, batch_size, steps = SETTINGS.optimum(params, tokens)
    best = {"learning_rate": np.exp(rate), "batch_tokens": np.exp(batch_size), "beta2": 2 ** -np.exp(-steps)}

    def checks(_: int, law: FittedLaw) -> list[Check]:
        told = predicted_settings(settings_at(law, params, tokens), law.confidence)
        predictions = [
            Check(kind=Kind.PREDICTION, name=name, truth=float(best[name]), told=each) for name, each in told.items()
        ]
        return of_parameters(law, planted) + predictions

    return checks


def _values(law: FittedLaw) -> dict[str, float]:
    return {name: estimate.value for name, estimate in law.parameters.items()}
