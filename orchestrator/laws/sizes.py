"""Params, tokens and flops of a target of which one or two were given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.predicted import OUTSIDE, Notes, Predicted, predicted_interval, widening_of
from orchestrator.laws.result import FittedLaw, Floats, Status
from search_spaces.errors import InputError

# The compute-optimal size is asked of these laws in this order; a weak one is not asked.
OPTIMUM_LAWS = ("chinchilla", "isoflop-akima", "isoflop")
FLOPS_PER_PARAM_TOKEN = 6


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The three sizes; those that a law gave have an interval.

    `best_params` are draws of the compute-optimal params at the flops; None where no law says them.
    `one_compute`: the flops are known, so that more params are fewer tokens.
    """

    params: Predicted
    tokens: Predicted
    flops: Predicted
    best_params: Floats | None = None
    one_compute: bool = False


def given_sizes(params: float | None, tokens: float | None, flops: float | None) -> dict[str, float]:
    """The sizes that were given. Raises InputError where none was, or they cannot be."""
    given = {"params": params, "tokens": tokens, "flops": flops}
    known = {name: value for name, value in given.items() if value is not None}
    if not known:
        raise InputError("give one or two of params, tokens and flops; none was given")
    for name, value in known.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value:g}; it must be a positive finite number")
    if len(known) == 3:
        product = FLOPS_PER_PARAM_TOKEN * known["params"] * known["tokens"]
        if abs(math.log(product / known["flops"])) > math.log(OUTSIDE):
            raise InputError(
                f"flops is {known['flops']:g}, but 6 * params * tokens is {product:g}; give two of the three"
            )
    return known


def complete_sizes(
    laws: Mapping[str, FittedLaw], measured: tuple[float, float] | None, known: dict[str, float], notes: Notes
) -> Sizes:
    """All three sizes from one or two: by a compute-optimal law, or along one tokens_per_param.

    `measured` is the range of tokens_per_param of the ladder. Raises InputError where nothing says the rest.
    """
    law = next((laws[name] for name in OPTIMUM_LAWS if name in laws and laws[name].status is Status.OK), None)
    if len(known) == 1:
        return _along_optimum(law, known, notes) if law else _along_ratio(_ladder_ratio(laws, measured), known, notes)
    params, tokens, flops = known.get("params"), known.get("tokens"), known.get("flops")
    if params is None:
        params = (flops or 0.0) / (FLOPS_PER_PARAM_TOKEN * (tokens or 1.0))
    if tokens is None:
        tokens = (flops or 0.0) / (FLOPS_PER_PARAM_TOKEN * params)
    flops = FLOPS_PER_PARAM_TOKEN * params * tokens
    return Sizes(
        params=Predicted(value=params),
        tokens=Predicted(value=tokens),
        flops=Predicted(value=flops),
        best_params=_best_params(law, flops) if law else None,
    )


def _along_optimum(law: FittedLaw, known: dict[str, float], notes: Notes) -> Sizes:
    """The two sizes that go with one on the line N* = k C^a of a law."""
    notes.add(f"the sizes that were not given are compute-optimal by the law {law.name!r}")
    notes.use(law)
    exponents, scales = _optimum_line(law)
    sizes = _along(known, exponents, scales)
    widening = widening_of(law)
    found = {
        name: predicted_interval(draws[0], draws[1:], None, law.confidence, widening=widening)
        for name, draws in sizes.items()
    }
    ((name, value),) = known.items()
    found[name] = Predicted(value=value)
    best = _best_params(law, found["flops"].value)
    return Sizes(
        params=found["params"],
        tokens=found["tokens"],
        flops=found["flops"],
        best_params=best,
        one_compute=name == "flops",
    )


def _along_ratio(ratio: float | None, known: dict[str, float], notes: Notes) -> Sizes:
    """The two sizes that go with one along a tokens_per_param."""
    if ratio is None:
        raise InputError(
            f"only {next(iter(known))} was given, and no law says the compute-optimal size; "
            "give two of params, tokens and flops"
        )
    notes.add(
        f"no law of the compute-optimal size is good enough; tokens_per_param = {ratio:.3g} of the fitted runs is used"
    )
    sizes = _along(known, np.array([0.5]), np.array([1 / math.sqrt(FLOPS_PER_PARAM_TOKEN * ratio)]))
    params, tokens, flops = (Predicted(value=float(sizes[name][0])) for name in ("params", "tokens", "flops"))
    return Sizes(params=params, tokens=tokens, flops=flops)


def _best_params(law: FittedLaw, flops: float) -> Floats:
    """Draws of N*(C), spread as widely as the law's own intervals."""
    exponents, scales = _optimum_line(law)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        best = scales * flops**exponents
        widened: Floats = best[0] * (best[1:] / best[0]) ** widening_of(law)
    return widened


def _optimum_line(law: FittedLaw) -> tuple[Floats, Floats]:
    """Exponents a and prefactors k of N* = k C^a: the point values first, then the draws."""

    def column(name: str) -> Floats:
        return np.concatenate([[law.value(name)], law.draws.get(name, np.array([]))])

    if law.name != "chinchilla":
        return column("a"), column("k")
    alpha, beta = column("alpha"), column("beta")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = (alpha * column("A") / (beta * column("B"))) ** (1 / (alpha + beta))
        exponent = beta / (alpha + beta)
        return exponent, ratio * FLOPS_PER_PARAM_TOKEN**-exponent


def _along(known: dict[str, float], exponent: Floats, scale: Floats) -> dict[str, Floats]:
    """All three sizes, where N = scale * C^exponent and C = 6 N D; the first entry is the point value."""
    ((name, value),) = known.items()
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if name == "flops":
            flops = np.full_like(exponent, value)
        elif name == "params":
            flops = (value / scale) ** (1 / exponent)
        else:
            flops = (FLOPS_PER_PARAM_TOKEN * scale * value) ** (1 / (1 - exponent))
        params = scale * flops**exponent
        return {"params": params, "tokens": flops / (FLOPS_PER_PARAM_TOKEN * params), "flops": flops}


def _ladder_ratio(laws: Mapping[str, FittedLaw], measured: tuple[float, float] | None) -> float | None:
    """Tokens per param to assume: the geometric middle of what was measured."""
    ranges = [law.valid["tokens_per_param"] for law in laws.values() if "tokens_per_param" in law.valid]
    if measured is not None:
        ranges.insert(0, measured)
    return math.sqrt(ranges[0][0] * ranges[0][1]) if ranges else None
