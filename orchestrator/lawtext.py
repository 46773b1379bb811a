"""Laws and predictions in words: for the terminal, and for MLflow's note."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

from orchestrator.laws.predict import Predicted, Prediction
from orchestrator.laws.registry import FitReport
from orchestrator.laws.result import Estimate, Exclusion, FittedLaw, Status
from orchestrator.report.data import Advice, Backtest
from orchestrator.sweep import best_trial
from orchestrator.trial import Trial
from search_spaces.plan import SweepPlan

_SHOWN = ("learning_rate", "batch_tokens", "beta2", "loss")
_WIDTH = 110


def summary(fitted: FitReport, advice: Sequence[Advice], backtests: Sequence[Backtest]) -> str:
    """All laws, what to use at the next scales, and how the last prediction came out."""
    parts = ["Laws", *law_lines(fitted)]
    if advice:
        parts += ["", "What to use next (value, 95 % interval of the mean)"]
        for item in advice:
            parts += [f"  {item.title}", *(f"    {line}" for line in prediction_lines(item.prediction, _SHOWN))]
            parts += [f"    beware: {warning}" for warning in item.prediction.warnings]
    parts += [line for test in backtests for line in ("", *backtest_lines(test))]
    return "\n".join(parts)


def law_lines(fitted: FitReport) -> list[str]:
    """Each law in a few lines: status, formula, parameters with intervals, what was used and left out."""
    lines = [line for law in fitted.laws.values() for line in _law(law)]
    return lines + [f"  {name}: not fitted: {reason}" for name, reason in fitted.not_fitted.items()]


def _law(law: FittedLaw) -> list[str]:
    status = "" if law.status is Status.OK else f" ({law.status.value}: {law.reason})"
    used = f"{law.runs_used} runs used" + (f", {excluded(law.runs_excluded)}" if law.runs_excluded else "")
    values = ", ".join(f"{name} {estimate_text(found)}" for name, found in law.parameters.items())
    body = f"{law.name}{status}: {law.form}; {values}; {used}"
    return textwrap.wrap(body, _WIDTH, initial_indent="  ", subsequent_indent="      ")


def excluded(exclusions: Iterable[Exclusion]) -> str:
    """`3 left out: 2 diverged, 1 failed`."""
    reasons = Counter(exclusion.reason for exclusion in exclusions)
    return f"{sum(reasons.values())} left out: " + ", ".join(f"{count} {reason}" for reason, count in reasons.items())


def estimate_text(found: Estimate) -> str:
    """`0.35 [0.31, 0.39]`."""
    return _interval(found.value, found.low, found.high)


def prediction_lines(said: Prediction, names: Iterable[str]) -> list[str]:
    """One line a quantity; those that could not be predicted are left out."""
    return [f"{name:<14}{predicted_text(said.quantities[name])}" for name in names if name in said.quantities]


def predicted_text(found: Predicted) -> str:
    """`0.00187 [0.00113, 0.0031]`."""
    return _interval(found.value, found.low, found.high)


def _interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.4g}" if low is None or high is None else f"{value:.4g} [{low:.4g}, {high:.4g}]"


def backtest_lines(test: Backtest) -> list[str]:
    """What was written down before the held-out scale was trained, and what was measured afterwards."""
    lines = [f"Backtest of {test.cell}, written down before its first trial, from {test.runs_used} smaller runs"]
    for name in _SHOWN:
        if name in test.prediction.quantities:
            found = test.measured.get(name)
            measured = f"measured {found:.4g}" if found is not None else "not measured (on an edge, or not fitted)"
            lines.append(f"  {name:<14}predicted {predicted_text(test.prediction.quantities[name])}, {measured}")
    if test.regret is not None:
        best = test.measured["best_loss"]
        lines.append(f"  regret of the predicted settings {test.regret:+.2%} (fitted best loss {best:.4g})")
    return lines


def note(
    plan: SweepPlan,
    trials: Iterable[Trial],
    fitted: FitReport,
    advice: Sequence[Advice],
    backtests: Sequence[Backtest],
) -> str:
    """The sweep in Markdown, for the description of its MLflow run."""
    known = list(trials)
    lines = [
        f"# {plan.name}",
        "",
        "| cell | trials | best loss | learning rate | batch | beta2 |",
        "|---|---|---|---|---|---|",
    ]
    for search in plan.searches:
        mine = [trial for trial in known if trial.of(search)]
        best = best_trial(mine)
        if best is not None and best.loss is not None:
            point = best.settings
            found = f"{best.loss:.4f} | {point.learning_rate:.3g} | {point.batch_size} | {point.beta2:.5g}"
            lines.append(f"| {search.name} | {len(mine)} | {found} |")
    lines += ["", "```", summary(fitted, advice, backtests), "```"]
    return "\n".join(lines)
