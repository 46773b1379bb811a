"""What each law should find in a planted sweep: parameters, and quantities at 4 to 30 times the largest scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
from calibrating.checks import Forecast, Truth, forecast
from planted_batches import KAPLAN, solved_loss
from planted_settings import Truth as Settings
from planted_tables import HOFFMANN, MUENNIGHOFF

from orchestrator.laws import (
    allocation,
    chinchilla,
    compute_only,
    critical_batch,
    data_constrained,
    downstream,
    frontier,
    kaplan_c,
    kaplan_consequences,
    kaplan_d,
    kaplan_n,
    kaplan_nd,
    kaplan_ns,
    overtraining,
    trajectory,
)
from orchestrator.laws.predicted_settings import predicted_settings, settings_at
from orchestrator.laws.records import RunRecord
from orchestrator.laws.registry import fit_laws
from orchestrator.laws.result import FittedLaw
from orchestrator.laws.traversal import Shape, traverse

# The truth of the sweep that a seed makes, as far as a law speaks of it.
TruthOf = Callable[[int, FittedLaw], Truth]

KAPLAN_SURFACE = {"alpha_N": 0.076, "alpha_D": 0.103, "N_c": 6.4e13, "D_c": 1.8e13}
KAPLAN_FRONTIER = {"alpha_C": 0.057, "C_c": 1.6e7 * 8.64e19}  # Kaplan et al. 2020: 1.6e7 PF-days
GADRE_LOSS = {"a": 212.2, "b": 366.7, "eta": 0.1364, "E": 1.837}
GADRE_ERROR = {"k": 2.206, "gamma": 0.715, "epsilon": 0.857}
GUO = {"intercept": 6.5, "slope": 0.09}
SETTINGS = Settings()
# Sweeps whose mean is what a biased estimator estimates: its error is then a tenth of one sweep's.
REFERENCE_SWEEPS = 100


def of_hoffmann(params: float, tokens: float, surface: Mapping[str, float] = HOFFMANN) -> TruthOf:
    """`chinchilla`: the surface, the loss at a target, and the best size for the target's compute."""
    flops = 6 * params * tokens
    planted = {**surface, "a": surface["beta"] / (surface["alpha"] + surface["beta"])}

    def truth(_seed: int, law: FittedLaw) -> Truth:
        return Truth(
            parameters=planted,
            forecasts=(
                forecast(law, "loss", lambda p: chinchilla.loss(p, params, tokens), planted_loss),
                forecast(law, "params", lambda p: chinchilla.optimal_params(p, flops), best),
            ),
        )

    planted_loss, best = chinchilla.loss(surface, params, tokens), chinchilla.optimal_params(surface, flops)
    return truth


def of_hoffmanns_frontier(flops: float) -> TruthOf:
    """`frontier` on HOFFMANN's surface: the lowest loss is A C^-alpha + E there too."""
    alpha = HOFFMANN["alpha"] * HOFFMANN["beta"] / (HOFFMANN["alpha"] + HOFFMANN["beta"])
    best = [float(optimum(HOFFMANN, flops)) for optimum in (chinchilla.optimal_params, chinchilla.optimal_tokens)]
    lowest = float(chinchilla.loss(HOFFMANN, *best))
    return of_frontier({"A": (lowest - HOFFMANN["E"]) * flops**alpha, "alpha": alpha, "E": HOFFMANN["E"]}, flops)


def of_frontier(planted: Mapping[str, float], flops: float) -> TruthOf:
    """`frontier`: its parameters, and the lowest loss at a compute."""

    def truth(_seed: int, law: FittedLaw) -> Truth:
        told = forecast(law, "loss", lambda p: frontier.loss(p, flops), frontier.loss(planted, flops))
        return Truth(parameters=planted, forecasts=(told,))

    return truth


def of_parameters(planted: Mapping[str, float], loss: Callable[..., object], *target: float) -> TruthOf:
    """A law that is a formula: its parameters, and the loss at a target."""

    def truth(_seed: int, law: FittedLaw) -> Truth:
        told = forecast(law, "loss", lambda p: loss(p, *target), loss(planted, *target))
        return Truth(parameters=planted, forecasts=(told,))

    return truth


def of_allocation(exponent: float, coefficient: float, flops: float) -> TruthOf:
    """A law N* = k C^a, D* = C / 6 N*."""
    planted = {"a": exponent, "b": 1 - exponent, "k": coefficient, "kd": 1 / (6 * coefficient)}
    return lambda _seed, law: _allocation(planted, law, flops)


def of_hoffmanns_allocation(flops: float) -> TruthOf:
    """The allocation that HOFFMANN's surface has."""
    a = HOFFMANN["beta"] / (HOFFMANN["alpha"] + HOFFMANN["beta"])
    return of_allocation(a, float(chinchilla.optimal_params(HOFFMANN, 1.0)), flops)


def of_exact_table(exact: Callable[[int], Sequence[RunRecord]], flops: float) -> TruthOf:
    """A law that its design biases, judged by what it finds in the same table without noise."""

    @cache
    def planted(seed: int, name: str) -> Mapping[str, float]:
        law = fit_laws(exact(seed), names=[name], draws=2).laws[name]
        return {parameter: estimate.value for parameter, estimate in law.parameters.items()}

    return lambda seed, law: _allocation(planted(seed, law.name), law, flops)


def of_mean_estimate(table: Callable[[int], Sequence[RunRecord]], flops: float) -> TruthOf:
    """A law that design and noise bias, judged by the mean of what it finds in other sweeps."""

    @cache
    def planted(name: str) -> Mapping[str, float]:
        laws = [fit_laws(table(seed), names=[name], draws=2).laws[name] for seed in range(REFERENCE_SWEEPS)]
        found = {parameter: np.array([law.value(parameter) for law in laws]) for parameter in laws[0].parameters}
        return {
            parameter: float(np.exp(np.log(values).mean()) if parameter in allocation.COEFFICIENTS else values.mean())
            for parameter, values in found.items()
        }

    return lambda _seed, law: _allocation(planted(law.name), law, flops)


def _allocation(planted: Mapping[str, float], law: FittedLaw, flops: float) -> Truth:
    sizes = (("params", allocation.optimal_params), ("tokens", allocation.optimal_tokens))
    told = (forecast(law, name, lambda p, at=at: at(p, flops), at(planted, flops)) for name, at in sizes)
    return Truth(parameters=planted, forecasts=tuple(told))


def of_static_curves(sizes: Sequence[float], tokens_per_param: tuple[float, float]) -> TruthOf:
    """`adaptive` on HOFFMANN's surface: what changing the shape saves down to the law's own last loss."""
    shapes = [_shape(size, tokens_per_param) for size in sizes]

    def truth(_seed: int, law: FittedLaw) -> Truth:
        lowest, highest = law.valid["loss"]
        way = traverse(shapes, np.geomspace(highest, lowest, 2000))
        columns = {"saved": way.saved, "flops": way.flops, "static_flops": way.static_flops}
        return Truth(parameters={name: float(column[0, -1]) for name, column in columns.items()})

    return truth


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


def of_kaplan_n(params: float) -> TruthOf:
    """`kaplan-n`: the loss of a size that converged."""
    planted = {name: KAPLAN_SURFACE[name] for name in ("alpha_N", "N_c")}
    return of_parameters(planted, kaplan_n.loss, params)


def of_kaplan_d(tokens: float) -> TruthOf:
    """`kaplan-d`: the loss of a large model."""
    planted = {name: KAPLAN_SURFACE[name] for name in ("alpha_D", "D_c")}
    return of_parameters(planted, kaplan_d.loss, tokens)


def of_kaplan_nd(params: float, tokens: float) -> TruthOf:
    """`kaplan-nd`: the loss of a size on a finite dataset."""
    return of_parameters(KAPLAN_SURFACE, kaplan_nd.loss, params, tokens)


def of_kaplan_c(flops: float) -> TruthOf:
    """`kaplan-c`: the lowest loss at a compute."""
    return of_parameters(KAPLAN_FRONTIER, kaplan_c.loss, flops)


def of_least_compute(flops: float) -> TruthOf:
    """`kaplan-c` of runs at several batch sizes: the frontier in C_min, which KAPLAN's constants imply."""
    planted = {
        "alpha_C_min": float(kaplan_consequences.compute_exponent(KAPLAN)),
        "C_c_min": float(kaplan_consequences.compute_constant(KAPLAN)),
    }

    def of_min(parameters: Mapping[str, object]) -> object:
        return kaplan_c.loss({"alpha_C": parameters["alpha_C_min"], "C_c": parameters["C_c_min"]}, flops)

    def truth(_seed: int, law: FittedLaw) -> Truth:
        told = (forecast(law, "loss", of_min, of_min(planted)),) if "C_c_min" in law.parameters else ()
        return Truth(parameters=planted, forecasts=told)

    return truth


def of_critical_batch(loss: float) -> TruthOf:
    """`critical-batch`: its line, read at a loss below those measured."""
    planted = {name: KAPLAN[name] for name in ("B_star", "alpha_B")}

    def truth(_seed: int, law: FittedLaw) -> Truth:
        batch = critical_batch.critical_batch(planted, loss)
        told = forecast(law, "critical_batch", lambda p: critical_batch.critical_batch(p, loss), batch)
        return Truth(parameters=planted, forecasts=(told,))

    return truth


def of_kaplan_ns(params: float, steps: float) -> TruthOf:
    """`kaplan-ns`: the loss after so many steps of a batch far above the critical."""
    planted = {name: KAPLAN[name] for name in kaplan_ns.PARAMETERS}
    return of_parameters(planted, kaplan_ns.loss, params, steps)


def of_trajectory(params: float, steps: Sequence[float], batch_tokens: float) -> TruthOf:
    """`trajectory`: early and late on the curve of an unseen size at an unseen batch size."""

    def truth(_seed: int, law: FittedLaw) -> Truth:
        told = (_point_of_curve(law, params, step, batch_tokens) for step in steps)
        return Truth(parameters=KAPLAN, forecasts=tuple(told))

    return truth


def _point_of_curve(law: FittedLaw, params: float, step: float, batch_tokens: float) -> Forecast:
    planted = solved_loss(params, step, batch_tokens)
    return forecast(law, f"loss at {step:g}", lambda p: trajectory.loss(p, params, step, batch_tokens), planted)


def of_repeated_data(params: float, tokens: float, unique_tokens: float) -> TruthOf:
    """`data-constrained`: the loss of several epochs."""
    return of_parameters(MUENNIGHOFF, data_constrained.loss, params, tokens, unique_tokens)


def of_overtraining(flops: float, tokens_per_param: float) -> TruthOf:
    """`overtraining`: the loss at a compute and split."""
    return of_parameters(GADRE_LOSS, overtraining.loss, flops, tokens_per_param)


def of_downstream(flops: float, tokens_per_param: float) -> TruthOf:
    """`downstream`: the error at the loss that a compute and split truly reach."""
    loss = overtraining.loss(GADRE_LOSS, flops, tokens_per_param)

    def truth(_seed: int, law: FittedLaw) -> Truth:
        told = forecast(law, "error", lambda p: downstream.error(p, loss), downstream.error(GADRE_ERROR, loss))
        return Truth(parameters=GADRE_ERROR, forecasts=(told,))

    return truth


def of_guo(flops: float) -> TruthOf:
    """`compute-only`: its line, read at a compute."""
    return of_parameters(GUO, compute_only.loss, flops)


def of_settings(params: float, tokens: float) -> TruthOf:
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
    rate, batch, steps = SETTINGS.optimum(params, tokens)
    best = {"learning_rate": np.exp(rate), "batch_tokens": np.exp(batch), "beta2": 2 ** -np.exp(-steps)}

    def truth(_seed: int, law: FittedLaw) -> Truth:
        told = predicted_settings(settings_at(law, params, tokens), law.confidence)
        forecasts = (Forecast(name=name, told=each, truth=float(best[name])) for name, each in told.items())
        return Truth(parameters=planted, forecasts=tuple(forecasts))

    return truth


def of_tuned_loss(params: float, tokens: float) -> TruthOf:
    """`chinchilla` through the tuned envelope of such a sweep: its floors are such a surface."""
    surface = {"E": 1.8, "A": 2.0 * 1e6**0.3, "B": 1.5 * 1e7**0.3, "alpha": 0.3, "beta": 0.3}
    return of_hoffmann(params, tokens, surface)
