"""How a sweep came out, in words: at the end of `run`, and in the note of its MLflow run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.formulas import laws_text
from orchestrator.lawfile import LawSet
from orchestrator.laws.predict import Prediction
from orchestrator.laws.predicted import Predicted
from orchestrator.numbers import number
from orchestrator.report.data import Advice, Backtest, ReportData
from orchestrator.trial import best_trial

_SHOWN = ("learning_rate", "batch_tokens", "beta2", "loss")
_DIGITS = 4  # losses and beta2 are compared by their fourth digit


def summary(fitted: LawSet, advice: Sequence[Advice], backtests: Sequence[Backtest]) -> str:
    """All laws, how the prediction of the held-out scale came out, and what to use at the next scales."""
    parts = [laws_text(fitted.laws, fitted.not_fitted)]
    parts += ["\n".join(_backtest(test)) for test in backtests]
    if advice:
        parts.append("What to use next, with 95 % intervals of the mean")
        parts += ["\n".join([item.title, *_quantities(item.prediction)]) for item in advice]
        warnings = dict.fromkeys(warning for item in advice for warning in item.prediction.warnings)
        parts.append("\n".join(f"beware: {warning}" for warning in warnings))
    return "\n\n".join(parts)


def _quantities(said: Prediction) -> list[str]:
    return [f"  {name:<14}{_interval(said.quantities[name])}" for name in _SHOWN if name in said.quantities]


def _interval(found: Predicted) -> str:
    value = number(found.value, _DIGITS)
    if found.low is None or found.high is None:
        return value
    return f"{value} [{number(found.low, _DIGITS)}, {number(found.high, _DIGITS)}]"


def _backtest(test: Backtest) -> list[str]:
    lines = [f"Backtest of {test.cell}: written down before its first trial, from {test.runs_used} smaller runs"]
    for name in _SHOWN:
        if name in test.prediction.quantities:
            found = test.measured.get(name)
            measured = (
                f"measured {number(found, _DIGITS)}" if found is not None else "not measured: edge, or not fitted"
            )
            lines.append(f"  {name:<14}predicted {_interval(test.prediction.quantities[name])}, {measured}")
    if test.regret is not None:
        best = number(test.measured["best_loss"], _DIGITS)
        lines.append(f"  regret of the predicted settings: {test.regret:+.2%} (fitted best loss {best})")
    return lines


def ends(data: ReportData) -> list[str]:
    """What stopped the sweep, and why its searches ended; nothing while it goes on."""
    if not data.ended:
        return []
    searches = (
        f"  {', '.join(name for name, other in data.ends.items() if other == why)}: {why}"
        for why in dict.fromkeys(data.ends.values())
    )
    return ["\n".join([f"Ended: {data.ended}", *searches])]


def note(data: ReportData, fitted: LawSet) -> str:
    """The sweep in Markdown, for the description of its MLflow run."""
    lines = [f"# {data.title}", "", *ends(data), "", *_best_settings(data)]
    lines += ["", "```", summary(fitted, data.advice, data.backtests), "```"]
    return "\n".join(lines)


def _best_settings(data: ReportData) -> Iterator[str]:
    yield "| search | trials | lowest loss | learning rate | batch | beta2 |"
    yield "|---|---|---|---|---|---|"
    for search in data.plan.searches if data.plan else ():
        mine = [trial for trial in data.trials if trial.of(search)]
        best = best_trial(mine)
        if best is not None:
            point = best.settings
            found = f"{best.loss:.4f} | {point.learning_rate:.3g} | {point.batch_size} | {point.beta2:.5g}"
            yield f"| {search.name} | {len(mine)} | {found} |"
