"""Each law as a card: what it is for, its formula, its intervals, and whether to trust it."""

from __future__ import annotations

from html import escape

from orchestrator.formulas import absent_laws
from orchestrator.laws.result import FittedLaw, Status
from orchestrator.report.data import ReportData
from orchestrator.report.formulas import formulas, interval_text, law_words
from orchestrator.report.html import Cell, badge, bullets, paragraph, table
from orchestrator.report.style import UNKNOWN, plural

# What a law tells, for people who do not know its name.
TELLS = {
    "hyperparameters": "The best settings at any size",
    "joint": "The best settings with the loss around them, in one fit",
    "chinchilla": "Loss from params and tokens",
    "overtraining": "Loss far beyond the optimal tokens",
    "kaplan-n": "Loss of a converged model from its params alone",
    "kaplan-d": "Loss of a large model from its tokens alone",
    "kaplan-nd": "Loss from params and tokens, with no part that stays",
    "kaplan-c": "The lowest loss at each compute, with no part that stays",
    "compute-only": "Loss from compute alone, and whether the split matters",
    "frontier": "The lowest loss at each compute",
    "isoflop": "The best size at each compute, by parabolas",
    "isoflop-akima": "The best size at each compute, by splines",
    "envelope": "The best size at each compute, by whole curves",
    "adaptive": "Which size to train at each loss, if it could grow",
    "critical-batch": "The batch beyond which more saves few steps",
    "kaplan-ns": "Loss from params and steps at very large batches",
    "trajectory": "The whole loss curve at any size and batch",
    "data-constrained": "Loss where tokens are repeated",
    "downstream": "Error on tasks from the loss",
}
# Symbols whose index stands behind an underscore.
_INDEXED = {"alpha", "N", "D", "C", "S", "B", "R"}
_COEFFICIENT = ".coefficient"
_POWERS = {
    "coefficient": "coefficient",
    "params_exponent": "exponent of params",
    "tokens_exponent": "exponent of tokens",
    "scatter": "scatter of cells",
}


def laws_section(data: ReportData) -> str:
    """A card for each fitted law, and why the others are absent."""
    legend = paragraph(
        "L is the loss, N params, D tokens, U unique tokens, C training compute in FLOP, S steps, B the batch in "
        "tokens. Intervals stand in brackets.",
        "muted",
    )
    cards = "".join(_card(law) for law in data.laws.values())
    absent = bullets(absent_laws(data.not_fitted), "warnings")
    return (legend if cards else "") + cards + (f"{paragraph('Not fitted:', 'muted')}{absent}" if absent else "")


def _card(law: FittedLaw) -> str:
    lines = "".join(f'<p class="formula">{line}</p>' for line in formulas(law))
    tells = escape(TELLS.get(law.name, law.name))
    head = f"<h3>{tells} <code>{escape(law.name)}</code> {badge(law.status.value)}</h3>"
    if law.status is Status.OK:
        words = paragraph(f"{_used(law)} {law_words(law)}", "muted")
    else:
        words = paragraph(_used(law), "muted") + paragraph(law_words(law), "warning")
    return f'<div class="law">{head}{lines}{_intervals(law)}{words}</div>'


def _intervals(law: FittedLaw) -> str:
    """The parameters with their intervals: a table where they belong to settings, else a line."""
    settings = [name.removesuffix(_COEFFICIENT) for name in law.parameters if name.endswith(_COEFFICIENT)]
    if settings:
        return table(("setting", *_POWERS.values()), [_setting(law, setting) for setting in settings])
    entries = "".join(
        f"<span><i>{_symbol(name)}</i> {interval_text(found)}</span>" for name, found in law.parameters.items()
    )
    return f'<p class="intervals">{entries}</p>' if entries else ""


def _setting(law: FittedLaw, setting: str) -> list[Cell]:
    found = [law.parameters.get(f"{setting}.{part}") for part in _POWERS]
    texts = [UNKNOWN if estimate is None else interval_text(estimate) for estimate in found]
    return [Cell(text=_spoken(setting)), *(Cell(text=text) for text in texts)]


def _symbol(parameter: str) -> str:
    """`alpha_N` with its index lowered; names of several words as words."""
    letter, _, index = parameter.partition("_")
    if letter not in _INDEXED:
        return escape(_spoken(parameter))
    return f"{escape(letter)}<sub>{escape(index.replace('_', ' '))}</sub>"


def _spoken(parameter: str) -> str:
    return parameter.replace("_", " ")


def _used(law: FittedLaw) -> str:
    text = f"n = {plural(law.runs_used, 'run')}; {law.confidence:.0%} intervals."
    lines = [
        f" {_spoken(name.partition('.')[0])} was measured along {found.value:.3g} tokens per param only."
        for name, found in law.parameters.items()
        if name.endswith(".along_tokens_per_param")
    ]
    left_out = len({excluded.run for excluded in law.runs_excluded})
    return text + (f" Left out: {plural(left_out, 'run')}." if left_out else "") + "".join(lines)
