"""A simulated sweep in words: where the budget goes, and what it buys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator import lawfile
from orchestrator.laws.result import Estimate
from orchestrator.numbers import count, number
from orchestrator.progress import duration
from orchestrator.simulation.outcome import Milestone, Share, Simulation

_SHOWN = ("learning_rate", "batch_tokens", "beta2", "loss")


def as_json(found: Simulation) -> dict[str, Any]:
    """Plain numbers and strings, for `plan --simulate --json`; None for what is not known."""
    body = lawfile.plain(found)
    sums = {"assumed": True, "trials": found.trials, "flops": found.flops}
    return sums | (body if isinstance(body, dict) else {})


def as_text(found: Simulation) -> str:
    """The whole simulation as `scalesweep plan --simulate` prints it."""
    blocks = (_assumed(found), _division(found), _course(found), _target(found), _exponents(found), _end(found))
    return "\n\n".join("\n".join(block) for block in blocks)


def _assumed(found: Simulation) -> Iterator[str]:
    yield "Simulated on an assumed surface, not on your data: the law of the synthetic trainer (trainers/synthetic.py),"
    yield "by default losses by Hoffmann et al. 2022, learning rates and batches by Step Law (Li et al. 2025), the rest"
    yield "guesses. It shows where trials go and how intervals shrink, not the losses or settings to expect."
    if found.outside:
        yield f"The assumed optimum lies outside of the space in {', '.join(found.outside)}."


def _division(found: Simulation) -> Iterator[str]:
    yield "How the budget is divided:"
    yield f"  {'search':<14}{'trials':>8}{'FLOP':>11}{'share':>8}  by reason"
    for share in found.searches:
        yield _share(share, found.flops)
    saved = 1 - found.flops / found.planned_flops
    yield (
        f"  {'all':<14}{found.trials:>8}{found.flops:>11.2e}{1:>8.1%}  "
        f"{saved:.0%} of the plan's FLOP left over, {duration(found.seconds)} on {found.slots} slots at the plan's rate"
    )


def _share(share: Share, whole: float) -> str:
    reasons = ", ".join(f"{reason} {times}" for reason, times in share.reasons.items())
    trials = f"{share.trials}/{share.planned}"
    return (
        f"  {share.name:<14}{trials:>8}{share.flops:>11.2e}{share.flops / whole if whole else 0:>8.1%}  "
        f"{reasons}{'; settled' if share.settled else ''}"
    )


def _course(found: Simulation) -> Iterator[str]:
    params, tokens = found.target
    whose = "The target" if found.wanted else "No target is given; a run of 4 times the largest scale"
    yield f"{whose}: {count(params)} params, {count(tokens)} tokens. What is known of it as FLOP are spent:"
    yield f"  {'spent':>6}{'FLOP':>11}{'trials':>8}{'expected regret':>17}{'95 % interval of its loss':>27}"
    yield from map(_milestone, found.course)


def _milestone(at: Milestone) -> str:
    regret = "not known yet" if at.expected_regret is None else f"{at.expected_regret:.3%}"
    error = "not known yet" if at.loss_error is None else f"+-{at.loss_error:.2%}"
    return f"  {at.part:>6.0%}{at.flops:>11.2e}{at.trials:>8}{regret:>17}{error:>27}"


def _target(found: Simulation) -> Iterator[str]:
    yield "What the laws say of it at the end, with 95 % intervals, and the truth that was planted:"
    for name in _SHOWN:
        said = found.fits.prediction.quantities.get(name) if found.fits.prediction else None
        predicted = _interval(said.value, said.low, said.high) if said else "no law says it"
        yield f"  {name:<14}{predicted:<36}planted {number(found.planted[name], 4)}"
    if found.regret is not None:
        yield f"  a run with the predicted settings would end {found.regret:.3%} above the best"


def _exponents(found: Simulation) -> Iterator[str]:
    yield "Exponents of the laws at the end, with 95 % intervals:"
    for law, exponents in found.fits.exponents.items():
        for name, estimate in exponents.items():
            yield f"  {law:<16}{name:<34}{_interval(estimate.value, estimate.low, estimate.high)}{_width(estimate)}"
    for law, reason in found.fits.not_fitted.items():
        yield f"  {law:<16}not fitted: {reason}"


def _width(estimate: Estimate) -> str:
    known = estimate.low is not None and estimate.high is not None
    return f"  width {number((estimate.high or 0.0) - (estimate.low or 0.0))}" if known else ""


def _interval(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return number(value, 4)
    return f"{number(value, 4)} [{number(low, 4)}, {number(high, 4)}]"


def _end(found: Simulation) -> Iterator[str]:
    yield f"Stopped: {found.stopped}"
