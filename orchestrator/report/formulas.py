"""Laws as formulas with their fitted numbers, in HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    write = _WRITERS.get(law.name)
    return [escape(law.form)] if write is None else write(law)


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


def _settings(law: FittedLaw) -> list[str]:
    return [_setting(law, setting) for setting in _SETTINGS if f"{setting}.coefficient" in law.parameters]


def _setting(law: FittedLaw, setting: str) -> str:
    factors: Sequence[str] = [
        f"{letter}{_sup(law.value(f'{setting}.{power}'))}"
        for power, letter in _POWERS.items()
        if f"{setting}.{power}" in law.parameters
    ]
    return f"{_SETTINGS[setting]} = {' · '.join([_value(law, f'{setting}.coefficient'), *factors])}"


def _surface(law: FittedLaw) -> list[str]:
    return [f"L(N, D) = {_value(law, 'E')} + {_inverse(law, 'A', 'N', 'alpha')} + {_inverse(law, 'B', 'D', 'beta')}"]


def _allocation(law: FittedLaw) -> list[str]:
    return [
        f"N*(C) = {_value(law, 'k')} · C{_sup(law.value('a'))}",
        f"D*(C) = {_value(law, 'kd')} · C{_sup(law.value('b'))}",
    ]


def _frontier(law: FittedLaw) -> list[str]:
    return [f"L*(C) = {_value(law, 'E')} + {_inverse(law, 'A', 'C', 'alpha')}"]


def _overtraining(law: FittedLaw) -> list[str]:
    eta = law.value("eta")
    of_split = f"{_value(law, 'a')} · M{_sup(eta)} + {_value(law, 'b')} · M{_sup(-eta)}"
    return [f"L(C, M) = {_value(law, 'E')} + ({of_split}) / C{_sup(eta)}, M = D / N"]


def _kaplan_n(law: FittedLaw) -> list[str]:
    return [f"L(N) = {_ratio(law, 'N_c', 'N', 'alpha_N')}"]


def _kaplan_d(law: FittedLaw) -> list[str]:
    return [f"L(D) = {_ratio(law, 'D_c', 'D', 'alpha_D')}"]


def _kaplan_c(law: FittedLaw) -> list[str]:
    lines = [f"L(C) = {_ratio(law, 'C_c', 'C', 'alpha_C')}"]
    if "alpha_C_min" in law.parameters:
        lines.append(f"L(C<sub>min</sub>) = {_ratio(law, 'C_c_min', 'C<sub>min</sub>', 'alpha_C_min')}")
    return lines


def _ratio(law: FittedLaw, constant: str, letter: str, exponent: str) -> str:
    """`(8.8 × 10¹³ / N)^0.076`, with the exponent raised."""
    return f"({_value(law, constant)} / {letter}){_sup(law.value(exponent))}"


def _kaplan_nd(law: FittedLaw) -> list[str]:
    of_size = f"({_value(law, 'N_c')} / N){_sup(law.value('alpha_N') / law.value('alpha_D'))}"
    return [f"L(N, D) = [{of_size} + {_value(law, 'D_c')} / D]{_sup(law.value('alpha_D'))}"]


def _kaplan_ns(law: FittedLaw) -> list[str]:
    steps = _ratio(law, "S_c", "S<sub>min</sub>", "alpha_S")
    return [f"L(N, S<sub>min</sub>) = {_ratio(law, 'N_c', 'N', 'alpha_N')} + {steps}"]


def _critical_batch(law: FittedLaw) -> list[str]:
    return [f"B<sub>crit</sub>(L) = {_value(law, 'B_star')} / L{_sup(1 / law.value('alpha_B'))} tokens"]


def _trajectory(law: FittedLaw) -> list[str]:
    batch = f"1 + {_value(law, 'B_star')} / (B · L{_sup(1 / law.value('alpha_B'))})"
    steps = f"[({_value(law, 'S_c')} / S) ({batch})]{_sup(law.value('alpha_S'))}"
    return [f"L(N, S, B) = {_ratio(law, 'N_c', 'N', 'alpha_N')} + {steps}"]


def _compute_only(law: FittedLaw) -> list[str]:
    return [f"L(C) = {_value(law, 'intercept')} − {_value(law, 'slope')} · ln C"]


def _data_constrained(law: FittedLaw) -> list[str]:
    worth, excess = _value(law, "R_D"), _value(law, "R_N")
    return [
        f"L = {_value(law, 'E')} + {_inverse(law, 'A', 'N′', 'alpha')} + {_inverse(law, 'B', 'D′', 'beta')}",
        f"D′ = U (1 + {worth} (1 − e<sup>−(D/U − 1) / {worth}</sup>)), N′ likewise with {excess}",
    ]


def _downstream(law: FittedLaw) -> list[str]:
    decay = f"e<sup>−{number(law.value('gamma'))} L</sup>"
    return [f"error(L) = {_value(law, 'epsilon')} − {_value(law, 'k')} · {decay}"]


def _adaptive(law: FittedLaw) -> list[str]:
    least = f"{_value(law, 'flops')} FLOP, of the best single size {_value(law, 'static_flops')} FLOP"
    return [escape(law.form), f"compute to the lowest loss that was measured: {least}"]


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


_WRITERS: Mapping[str, Callable[[FittedLaw], list[str]]] = {
    "hyperparameters": _settings,
    "joint": _settings,
    "chinchilla": _surface,
    "overtraining": _overtraining,
    "kaplan-n": _kaplan_n,
    "kaplan-d": _kaplan_d,
    "kaplan-nd": _kaplan_nd,
    "kaplan-c": _kaplan_c,
    "kaplan-ns": _kaplan_ns,
    "compute-only": _compute_only,
    "frontier": _frontier,
    "isoflop": _allocation,
    "isoflop-akima": _allocation,
    "envelope": _allocation,
    "adaptive": _adaptive,
    "critical-batch": _critical_batch,
    "trajectory": _trajectory,
    "data-constrained": _data_constrained,
    "downstream": _downstream,
}
