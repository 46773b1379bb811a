"""Laws and predictions in words, for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from orchestrator.lawfile import LawSet
from orchestrator.laws.predict import Predicted, Prediction
from orchestrator.laws.result import Estimate, Exclusion, FittedLaw, Status
from orchestrator.numbers import count, number

_WORDS = {Status.OK: "ok", Status.WEAK: "weak", Status.FAILED: "failed"}
# Settings lie close to 1 or are compared by their fourth digit.
_DIGITS = {"beta2": 4, "loss": 4}
_COUNTS = ("params", "tokens", "batch_tokens", "warmup_tokens")


def laws_text(fitted: LawSet) -> str:
    """Each law with its formula, numbers, status and what it leaves out; then those not fitted and why."""
    blocks = [_law_text(law) for law in fitted.laws.values()]
    if fitted.not_fitted:
        blocks.append("\n".join(["not fitted", *(f"  {name}: {why}" for name, why in fitted.not_fitted.items())]))
    return "\n\n".join(blocks)


def prediction_text(prediction: Prediction, published: Sequence[Sequence[str]], confidence: float) -> str:
    """A table of the quantities with both intervals, what published rules say, and the warnings."""
    percent = f"{100 * confidence:g} %"
    rows = [("", "value", f"{percent}, mean", f"{percent}, one run")]
    rows += [(name, *_predicted(name, found)) for name, found in prediction.quantities.items()]
    parts = [_aligned(rows)]
    if published:
        parts.append(_aligned([("published rules", "learning_rate", "batch_tokens", "source"), *published]))
    parts += ["\n".join(f"warning: {text}" for text in prediction.warnings)] if prediction.warnings else []
    return "\n\n".join(parts)


def _law_text(law: FittedLaw) -> str:
    judged = _WORDS[law.status] + (f": {law.reason}" if law.reason else "")
    heading = f"{law.name}  [{judged}]"
    return "\n".join([heading, *(f"  {line}" for line in (*_formulas(law), _runs(law)))])


def _formulas(law: FittedLaw) -> list[str]:
    """Power laws of settings with their numbers in place; other laws as their form, then the numbers."""
    settings = [name.removesuffix(".coefficient") for name in law.parameters if name.endswith(".coefficient")]
    if settings:
        return [_power_law(law, setting) for setting in settings]
    numbers = [f"{name} = {_interval(estimate)}" for name, estimate in law.parameters.items()]
    return [law.form, ", ".join(numbers)]


def _power_law(law: FittedLaw, setting: str) -> str:
    factors = [
        f"{quantity}^{_interval(law.parameters[key])}"
        for quantity in ("params", "tokens")
        if (key := f"{setting}.{quantity}_exponent") in law.parameters
    ]
    line = law.parameters.get(f"{setting}.along_tokens_per_param")
    where = f"  (along tokens_per_param = {number(line.value)})" if line else ""
    return f"{setting} = {' * '.join([_interval(law.parameters[f'{setting}.coefficient']), *factors])}{where}"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return number(estimate.value)
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def _runs(law: FittedLaw) -> str:
    """How many runs are in, how many out, by reason."""
    used = f"{law.runs_used} runs, {100 * law.confidence:g} % intervals"
    if not law.runs_excluded:
        return used
    reasons = Counter(exclusion.reason for exclusion in law.runs_excluded)
    return f"{used}; left out: {'; '.join(f'{amount} ({reason})' for reason, amount in reasons.most_common())}"


def _predicted(name: str, found: Predicted) -> tuple[str, str, str]:
    def show(value: float | None) -> str:
        return count(value) if name in _COUNTS else number(value, _DIGITS.get(name, 3))

    def span(low: float | None, high: float | None) -> str:
        return "" if low is None or high is None else f"{show(low)} to {show(high)}"

    return show(found.value), span(found.low, found.high), span(found.predictive_low, found.predictive_high)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
