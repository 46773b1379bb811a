"""Laws as formulas with their fitted numbers, in HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from orchestrator.laws.result import Estimate, FittedLaw
from orchestrator.numbers import number

# How a setting of the hyperparameter laws is written.
_SETTINGS = {
    "learning_rate": "learning rate",
    "batch_tokens": "batch (tokens)",
    "beta2_half_life": "beta2 half-life (tokens)",
    "one_minus_beta2": "1 − beta2",
}
_POWERS = {"params_exponent": "N", "tokens_exponent": "D"}
_SIGNS = str.maketrans("-", "−")


def formulas(law: FittedLaw) -> list[str]:
    """The law's formulas with its numbers in them, as HTML; its form in words where no other way is known."""
    known = law.parameters
    if law.name in {"hyperparameters", "joint"}:
        return [_setting(law, setting) for setting in _SETTINGS if f"{setting}.coefficient" in known]
    if {"E", "A", "B", "alpha", "beta"} <= set(known):
        return [
            f"L(N, D) = {_value(law, 'E')} + {_inverse(law, 'A', 'N', 'alpha')} + {_inverse(law, 'B', 'D', 'beta')}"
        ]
    if {"k", "a"} <= set(known):
        lines = [f"N*(C) = {_value(law, 'k')} · C{_sup(law.value('a'))}"]
        return (
            [*lines, f"D*(C) = {_value(law, 'kd')} · C{_sup(law.value('b'))}"] if {"kd", "b"} <= set(known) else lines
        )
    if law.name == "frontier":
        return [f"L*(C) = {_value(law, 'E')} + {_inverse(law, 'A', 'C', 'alpha')}"]
    return [escape(law.form)]


def interval_text(estimate: Estimate, digits: int = 3) -> str:
    """`0.35 (0.31 to 0.39)`."""
    value = number(estimate.value, digits)
    if estimate.low is None or estimate.high is None:
        return value.translate(_SIGNS)
    return f"{value} ({number(estimate.low, digits)} to {number(estimate.high, digits)})".translate(_SIGNS)


def law_words(law: FittedLaw) -> str:
    """The law's status in a plain sentence."""
    if law.status == "ok":
        return "The data carry this law."
    judged = "This law is weak" if law.status == "weak" else "This law failed"
    return f"{judged}: {law.reason or 'no reason was recorded'}."


def _setting(law: FittedLaw, setting: str) -> str:
    factors: Sequence[str] = [
        f"{letter}{_sup(law.value(f'{setting}.{power}'))}"
        for power, letter in _POWERS.items()
        if f"{setting}.{power}" in law.parameters
    ]
    return f"{_SETTINGS[setting]} = {' · '.join([_value(law, f'{setting}.coefficient'), *factors])}"


def _value(law: FittedLaw, name: str) -> str:
    text = number(law.value(name))
    mantissa, separator, exponent = text.partition("e")
    return f"{mantissa} × 10{_raised(exponent)}" if separator else text.translate(_SIGNS)


def _inverse(law: FittedLaw, coefficient: str, letter: str, exponent: str) -> str:
    return f"{_value(law, coefficient)} / {letter}{_sup(law.value(exponent))}"


def _sup(exponent: float) -> str:
    return _raised(number(exponent))


def _raised(text: str) -> str:
    return f"<sup>{text.translate(_SIGNS)}</sup>"
