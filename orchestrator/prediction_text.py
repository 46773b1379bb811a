"""A prediction for people: a table, what the uncertainty could cost, and what published rules would say."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.laws.predict import Predicted, Prediction
from orchestrator.laws.published import ALLOCATIONS, PublishedRule, published_rules, weight_decay
from orchestrator.laws.regret import Regret
from orchestrator.numbers import count, number

_COUNTS = ("params", "tokens", "batch_tokens", "warmup_tokens", "non_embedding_params")
_WHOLE = ("depth", "width", "heads", "ffn_width")
_DIGITS = {"beta2": 5, "loss": 4}
# Losses above the best below this part are not told from nothing. A guess: a fifth of Step Law's 0.09 %.
_LEAST_REGRET = 2e-4


def prediction_text(prediction: Prediction) -> str:
    """The quantities with both intervals, regrets, what published rules say for the same size, and the warnings."""
    rows = [("", "value", "interval of the mean", "interval of one run")]
    rows += [(name, *_predicted(name, found)) for name, found in prediction.quantities.items()]
    parts = [_aligned(rows)]
    if prediction.regrets:
        costs = [(name, regret_text(regret)) for name, regret in prediction.regrets.items()]
        parts.append(f"what it could cost that the best is not known better (expected to most)\n{_aligned(costs)}")
    parts.append(_published(prediction))
    parts += ["\n".join(f"warning: {text}" for text in prediction.warnings)] if prediction.warnings else []
    return "\n\n".join(parts)


def regret_text(regret: Regret) -> str:
    """`0.05 % to 0.2 % of loss (1 % to 4 % of the compute)`: expected, and not exceeded at the laws' confidence."""
    if regret.loss_high < _LEAST_REGRET:
        loss = f"less than {_LEAST_REGRET:.2%}"
    else:
        loss = f"{_percent(regret.loss)} to {_percent(regret.loss_high)}"
    if regret.compute is None or regret.compute_high is None:
        return f"{loss} of loss"
    return f"{loss} of loss ({_percent(regret.compute)} to {_percent(regret.compute_high)} of the compute)"


def rules_beside(prediction: Prediction) -> tuple[PublishedRule, ...]:
    """The published rules at the predicted size."""
    beside = prediction.quantities.get("non_embedding_params")
    return published_rules(
        prediction.value("params"), prediction.value("tokens"), non_embedding_params=beside.value if beside else None
    )


def _percent(part: float) -> str:
    return f"{number(100 * part, 2)} %"


def _predicted(name: str, found: Predicted) -> tuple[str, str, str]:
    def show(value: float) -> str:
        if name in _WHOLE:
            return str(round(value))
        return count(value) if name in _COUNTS else number(value, _DIGITS.get(name, 3))

    def span(low: float | None, high: float | None) -> str:
        return "" if low is None or high is None else f"{show(low)} to {show(high)}"

    return show(found.value), span(found.low, found.high), span(found.predictive_low, found.predictive_high)


def _published(prediction: Prediction) -> str:
    rows = [("published rules", "learning_rate", "batch_tokens", "beta2", "made for")]
    for rule in rules_beside(prediction):
        known = rule.settings
        settings = [number(known[name]) if name in known else "" for name in ("learning_rate", "batch_tokens", "beta2")]
        settings[1] = count(known.get("batch_tokens")) if "batch_tokens" in known else ""
        rows.append((rule.name, settings[0], settings[1], settings[2], rule.validity + _decay(rule, prediction)))
    flops = prediction.value("flops")
    optimal = ", ".join(f"{each.name} {count(each.params(flops))}" for each in ALLOCATIONS)
    return f"{_aligned(rows)}\ncompute-optimal params at these flops: {optimal}"


def _decay(rule: PublishedRule, prediction: Prediction) -> str:
    """A timescale, and the weight decay that it means for the predicted settings."""
    if "timescale" not in rule.settings:
        return ""
    timescale, said = rule.settings["timescale"], prediction.quantities
    words = f"; timescale {number(timescale)} of the run"
    if "learning_rate" not in said or "batch_tokens" not in said:
        return words
    decay = weight_decay(
        timescale,
        learning_rate=prediction.value("learning_rate"),
        batch_tokens=prediction.value("batch_tokens"),
        tokens=prediction.value("tokens"),
    )
    return f"{words}: weight decay {number(decay)} with the settings above"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in padded)
