"""Each law as a card: what it is for, its formula, its intervals, and whether to trust it."""

from __future__ import annotations

from html import escape

from orchestrator.laws.result import FittedLaw, Status
from orchestrator.report.data import ReportData
from orchestrator.report.formulas import formulas, interval_text, law_words
from orchestrator.report.html import badge, bullets, paragraph
from orchestrator.report.style import plural

# What a law tells, for people who do not know its name.
_TELLS = {
    "hyperparameters": "The best settings at any size",
    "chinchilla": "Loss from params and tokens",
    "isoflop": "The best size at each compute, by parabolas",
    "isoflop-akima": "The best size at each compute, by splines",
    "frontier": "The lowest loss at each compute",
}
# Shown with the law, not as findings of their own.
_SILENT = (".scatter", ".along_tokens_per_param")


def laws_section(data: ReportData) -> str:
    """A card for each fitted law, and why the others are absent."""
    legend = paragraph(
        "N is params, D tokens, C training compute in FLOP. In brackets stand intervals of the confidence named.",
        "muted",
    )
    cards = "".join(_card(law) for law in data.laws.values())
    absent = [f"{name} was not fitted: {reason}" for name, reason in data.not_fitted.items()]
    return (legend if cards else "") + cards + bullets(absent, "warnings")


def _card(law: FittedLaw) -> str:
    lines = "".join(f'<p class="formula">{line}</p>' for line in formulas(law))
    tells = escape(_TELLS.get(law.name, law.name))
    kind = "muted" if law.status is Status.OK else "warning"
    return (
        f'<div class="law"><h3>{tells} <code>{escape(law.name)}</code> {badge(law.status.value)}</h3>'
        f"{lines}{_intervals(law)}{paragraph(_used(law), 'muted')}{paragraph(law_words(law), kind)}</div>"
    )


def _intervals(law: FittedLaw) -> str:
    shown = {name: found for name, found in law.parameters.items() if not name.endswith(_SILENT)}
    entries = "".join(
        f"<span><i>{escape(_spoken(name))}</i> {interval_text(found)}</span>" for name, found in shown.items()
    )
    return f'<p class="intervals">{entries}</p>' if entries else ""


def _spoken(parameter: str) -> str:
    return parameter.replace("_exponent", " exponent").replace(".", " ").replace("_", " ")


def _used(law: FittedLaw) -> str:
    text = f"n = {plural(law.runs_used, 'run')}; {law.confidence:.0%} intervals."
    lines = [
        f" {_spoken(name.partition('.')[0])} was measured along {found.value:.3g} tokens per param only."
        for name, found in law.parameters.items()
        if name.endswith(".along_tokens_per_param")
    ]
    left_out = len({excluded.run for excluded in law.runs_excluded})
    return text + (f" Left out: {plural(left_out, 'run')}." if left_out else "") + "".join(lines)
