"""What to use at sizes that were not swept, and what published rules would say there."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from orchestrator.laws.predicted import Predicted
from orchestrator.numbers import count, number
from orchestrator.prediction_text import regret_text, rules_beside
from orchestrator.report.data import Advice, ReportData
from orchestrator.report.html import Cell, bullets, paragraph, quantity, table
from orchestrator.report.style import UNKNOWN

_COLUMNS = ("params", "tokens", "learning_rate", "batch_tokens", "beta2", "loss")
_HEADS = ("params", "tokens", "learning rate", "batch, tokens", "beta2", "loss", "could cost")
_COUNTS = {"params", "tokens", "batch_tokens"}
_SETTINGS = ("learning_rate", "batch_tokens", "beta2")


def advice_section(data: ReportData) -> str:
    """Settings for the next sizes with intervals, their warnings, and the published rules beside them."""
    if not data.advice:
        return paragraph("No advice: no law says anything about a size beyond the ones that were measured.", "absent")
    rows = [_advised(advice) for advice in data.advice]
    lead = paragraph(
        "Below each value stands the interval of its mean. What it could cost is the loss above the best if the "
        "true optimum of the settings, or of the size, lies elsewhere: expected, then the most in 19 of 20 cases; "
        "in brackets as a part of the compute.",
        "muted",
    )
    return lead + table(("target", *_HEADS), rows) + _warnings(data) + _published(data)


def _advised(advice: Advice) -> list[Cell]:
    said = advice.prediction.quantities
    return [Cell(text=advice.title), *(_predicted(name, said.get(name)) for name in _COLUMNS), _cost(advice)]


def _cost(advice: Advice) -> Cell:
    words = [f"{name} {regret_text(regret)}" for name, regret in advice.prediction.regrets.items()]
    return Cell(text="; ".join(words) or UNKNOWN)


def _predicted(name: str, found: Predicted | None) -> Cell:
    if found is None:
        return Cell(text=UNKNOWN)
    return quantity(found.value, writer(name), note=span(name, found.low, found.high))


def writer(name: str) -> Callable[[float], str]:
    """How the values of a quantity are written: counts with letters, losses and beta2 to more digits."""
    if name in _COUNTS:
        return count
    digits = {"beta2": 5, "loss": 4}.get(name, 3)
    return lambda value: number(value, digits)


def span(name: str, low: float | None, high: float | None) -> str:
    """`1.2e-3 to 3e-3`, or nothing where the interval is not known."""
    write = writer(name)
    return "" if low is None or high is None else f"{write(low)} to {write(high)}"


def _warnings(data: ReportData) -> str:
    """What all targets share, then a line for each target's own."""
    targets: dict[str, list[str]] = {}
    for advice in data.advice:
        for warning in advice.prediction.warnings:
            targets.setdefault(warning, []).append(advice.title)
    shared = [text for text, titles in targets.items() if len(titles) == len(data.advice)]
    own = {advice.title: [w for w in advice.prediction.warnings if w not in shared] for advice in data.advice}
    rest = [f"{title}: {'; '.join(texts)}" for title, texts in own.items() if texts]
    return f'<div class="warning"><b>Beware</b>{bullets([*shared, *rest], "warnings")}</div>' if targets else ""


def _published(data: ReportData) -> str:
    """What the published rules say for the first target."""
    first = data.advice[0]
    said = first.prediction.quantities
    if "params" not in said or "tokens" not in said:
        return ""
    rules = rules_beside(first.prediction)
    rows = [[Cell(text="this sweep"), *(_predicted(name, said.get(name)) for name in _SETTINGS), Cell(text="")]]
    rows += [
        [
            Cell(text=rule.name),
            *(quantity(rule.settings.get(name), writer(name)) for name in _SETTINGS),
            Cell(text=rule.validity, note=rule.source),
        ]
        for rule in rules
        if set(rule.settings) & set(_SETTINGS)
    ]
    heads = ("rule", "learning rate", "batch, tokens", "beta2", "made for")
    title = f"<h3>What published rules would say for {escape(first.title)}</h3>"
    return title + table(heads, rows)
