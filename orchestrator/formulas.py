"""Laws as formulas with their numbers, for a terminal."""

from __future__ import annotations

import textwrap
from collections import Counter

from orchestrator.laws.result import Estimate, FittedLaw, Status
from orchestrator.numbers import number

_WIDTH = 110  # characters
# A positive number whose interval's ends are further apart than this factor is not known in any useful sense. A guess.
_NOT_DETERMINED = 1e6
_JOINED = "\N{NO-BREAK SPACE}"  # where a line must not end
_MOST_REASONS = 4  # for which runs are left out, in a line for people


def law_text(law: FittedLaw) -> str:
    """Name, status in words and runs; then a power law for each setting, or the form and its parameters."""
    judged = law.status.value if law.status is Status.OK else f"{law.status.value}: {law.reason}"
    lines = [f"{law.name} ({judged}); {_runs(law)}", *(f"  {line}" for line in _formulas(law))]
    wrapped = (textwrap.wrap(line, _WIDTH, subsequent_indent="    ") for line in lines)
    return "\n".join(line for lines in wrapped for line in lines).replace(_JOINED, " ")


def _formulas(law: FittedLaw) -> list[str]:
    settings = [name.removesuffix(".coefficient") for name in law.parameters if name.endswith(".coefficient")]
    if settings:
        return [_power_law(law, setting) for setting in settings]
    numbers = (f"{name} = {_interval(estimate)}" for name, estimate in law.parameters.items())
    return [law.form, ", ".join(text.replace(" ", _JOINED) for text in numbers)]


def _power_law(law: FittedLaw, setting: str) -> str:
    factors = [
        f"{quantity}^{_interval(law.parameters[key])}"
        for quantity in ("params", "tokens")
        if (key := f"{setting}.{quantity}_exponent") in law.parameters
    ]
    line = law.parameters.get(f"{setting}.along_tokens_per_param")
    where = f" along tokens_per_param = {number(line.value)}" if line else ""
    return f"{setting} = {' * '.join([_interval(law.parameters[f'{setting}.coefficient']), *factors])}{where}"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return number(estimate.value)
    if 0 < estimate.low < estimate.high / _NOT_DETERMINED:
        return "not determined"
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def _runs(law: FittedLaw) -> str:
    """How many runs are in, and how many are left out for which reason."""
    used = f"{law.runs_used} runs"
    reasons = Counter(exclusion.reason for exclusion in law.runs_excluded).most_common()
    words = [f"{amount} {reason}" for reason, amount in reasons[:_MOST_REASONS]]
    if len(reasons) > _MOST_REASONS:
        words.append(f"{sum(amount for _, amount in reasons[_MOST_REASONS:])} for other reasons, listed by --json")
    left_out = "; ".join(words)
    return f"{used}, left out: {left_out}" if left_out else used
