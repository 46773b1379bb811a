"""What a simulated sweep came to: who got how much, and what became known of the target on the way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from orchestrator.collect import collect
from orchestrator.goal import Goal
from orchestrator.laws.coordinates import beta2_of
from orchestrator.laws.predict import Prediction, predict
from orchestrator.laws.registry import FitReport, fit_laws
from orchestrator.laws.result import Estimate
from orchestrator.ledger import Ended, History, Settled
from orchestrator.runfolder import RunFolder
from orchestrator.steering import Steering
from orchestrator.trial import Reason, Trial
from search_spaces.axis import Fixed
from search_spaces.errors import ScalesweepError
from search_spaces.plan import Search, SweepPlan
from search_spaces.space import HyperParameters
from trainers.synthetic import SyntheticLaw

# What is looked at on the way: parts of the FLOP that the sweep spends.
PARTS = (0.1, 0.25, 0.5, 1.0)
# The laws whose intervals are shown, and by which the target is predicted.
LAWS = ("hyperparameters", "joint", "chinchilla")
# Both ends of a 95 % interval, in standard errors.
_NORMAL_95 = 1.96
# What the law of the loss calls its exponents; the others end in `_exponent`.
_LOSS_EXPONENTS = ("alpha", "beta")


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one search got: of `planned` trials so many by each reason; `settled` says why no more."""

    name: str
    planned: int
    trials: int
    flops: float
    reasons: Mapping[Reason, int]
    settled: str


@dataclass(frozen=True, kw_only=True)
class Milestone:
    """What was known of the target once `flops` were spent. None before the first cell is known.

    `loss_error` is the relative half-width of the 95 % interval of the target's loss.
    """

    part: float
    trials: int
    flops: float
    expected_regret: float | None
    loss_error: float | None


@dataclass(frozen=True, kw_only=True)
class Fits:
    """The laws at the end, the exponents among their parameters, and what they say of the target."""

    exponents: Mapping[str, Mapping[str, Estimate]]  # law -> exponent
    not_fitted: Mapping[str, str]
    prediction: Prediction | None


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """A sweep that was played through.

    `planted` are the true values of what `fits` say of the target, and `regret` what its settings
    would cost there; None where a setting was not predicted. `seconds` are those of the simulated clock.
    """

    target: tuple[float, float]
    wanted: bool  # whether the sweep file names the target
    slots: int
    seconds: float
    planned_flops: float
    searches: tuple[Share, ...]
    course: tuple[Milestone, ...]
    fits: Fits
    planted: Mapping[str, float]
    regret: float | None
    stopped: str
    outside: tuple[str, ...]  # searches whose planted optimum lies outside of the space

    @property
    def trials(self) -> int:
        """Trials of all searches."""
        return sum(share.trials for share in self.searches)

    @property
    def flops(self) -> float:
        """FLOP of all trials."""
        return sum(share.flops for share in self.searches)


def shares(plan: SweepPlan, history: History) -> tuple[Share, ...]:
    """What each search got."""
    settled = {(event.scale, event.tokens): event.why for event in history.of(Settled)}
    found = []
    for search in plan.searches:
        cell, trials = search.cell, [trial for trial in history.trials.values() if trial.of(search)]
        found.append(
            Share(
                name=search.name,
                planned=search.planned_trials,
                trials=len(trials),
                flops=float(len(trials) * cell.flops()),
                reasons=Counter(trial.reason for trial in trials),
                settled=settled.get((cell.scale.name, cell.tokens), ""),
            )
        )
    return tuple(found)


def course(plan: SweepPlan, history: History, target: tuple[float, float]) -> Iterator[Milestone]:
    """The outlook on the target once each of PARTS was spent."""
    ended = [history.trials[event.key] for event in history.of(Ended) if event.state.ended]
    steering = Steering(plan=plan, goal=Goal(target=target))
    costs = (plan.search_of(trial.scale, trial.tokens).cell.flops() for trial in ended)
    spent = list(accumulate(costs, initial=0))
    for part in PARTS:
        count = next(number for number, flops in enumerate(spent) if flops >= part * spent[-1])
        known = steering.known(ended[:count])
        yield Milestone(
            part=part,
            trials=count,
            flops=float(spent[count]),
            expected_regret=known.expected_regret if known else None,
            loss_error=math.expm1(_NORMAL_95 * known.loss_stderr) if known else None,
        )


def fits(folder: RunFolder, trials: Sequence[Trial], target: tuple[float, float]) -> Fits:
    """Fit the laws of the settings and of the loss, as at the end of a real sweep."""
    records, context = collect(folder, trials)
    fitted = fit_laws(records, names=LAWS)
    try:
        said = predict(fitted.laws, context, params=target[0], tokens=target[1])
    except ScalesweepError:  # no law at all: `not_fitted` says why
        said = None
    return Fits(exponents=_exponents(fitted), not_fitted=fitted.not_fitted, prediction=said)


def _exponents(fitted: FitReport) -> dict[str, dict[str, Estimate]]:
    return {
        law.name: {
            name: estimate
            for name, estimate in law.parameters.items()
            if name.endswith("_exponent") or name in _LOSS_EXPONENTS
        }
        for law in fitted.laws.values()
    }


def planted(law: SyntheticLaw, target: tuple[float, float]) -> dict[str, float]:
    """The true best settings and loss of the target."""
    best = law.optimum(*target)
    return {
        "learning_rate": best.learning_rate,
        "batch_tokens": best.batch_tokens,
        "beta2": beta2_of(best.beta2_half_life / best.batch_tokens),
        "loss": best.loss,
    }


def true_regret(law: SyntheticLaw, target: tuple[float, float], said: Prediction | None) -> float | None:
    """What the predicted settings would cost; None where one of them was not predicted."""
    names = ("learning_rate", "batch_tokens", "beta2")
    if said is None or any(name not in said.quantities for name in names):
        return None
    rate, batch, beta2 = (said.value(name) for name in names)
    settings = HyperParameters(learning_rate=rate, batch_size=max(1, round(batch)), beta2=beta2)
    return law.loss(*target, settings, sequence_length=1) / law.optimum(*target).loss - 1


def outside(plan: SweepPlan, law: SyntheticLaw) -> Iterator[str]:
    """Searches whose planted optimum lies outside of what may be tried, with the settings where it does."""
    for search in plan.searches:
        best = planted(law, (float(search.cell.scale.params), float(search.cell.tokens)))
        beyond = [name for name, value in _as_tried(search, best).items() if _beyond(search, name, value)]
        if beyond:
            yield f"{search.name} ({', '.join(beyond)})"


def _as_tried(search: Search, best: Mapping[str, float]) -> dict[str, float]:
    return {
        "learning_rate": best["learning_rate"],
        "batch_size": best["batch_tokens"] / search.cell.scale.sequence_length,
        "beta2": best["beta2"],
    }


def _beyond(search: Search, name: str, value: float) -> bool:
    axis = search.space.axes()[name]
    return not isinstance(axis, Fixed) and not axis.low <= value <= axis.high
