"""Fitted laws as a short table for a terminal."""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence

from orchestrator.laws.result import Estimate, FittedLaw, Status
from orchestrator.numbers import number

_WIDTH = 118  # characters
# A positive number whose interval's ends are further apart than this factor is not known in any useful sense. A guess.
_NOT_DETERMINED = 1e6
_JOINED = "\N{NO-BREAK SPACE}"  # where a line must not end
_MOST_REASONS = 4  # for which runs are left out, in lines for people
_REASON_LINES = 2  # for why a law is weak
_MOST_LAWS = 3  # that are named beside such a reason


def laws_text(laws: Mapping[str, FittedLaw], not_fitted: Mapping[str, str]) -> str:
    """A few lines a law, then the runs that laws leave out, then the laws that were not fitted."""
    margin = max((len(name) for name in laws), default=0) + 1
    lines = [line for law in laws.values() for line in _law_lines(law, margin)]
    notes = [*_left_out(list(laws.values())), *(f"not fitted: {words}" for words in absent_laws(not_fitted))]
    lines += [line for words in notes for line in textwrap.wrap(words, _WIDTH, subsequent_indent=" " * 4)]
    return "\n".join(lines).replace(_JOINED, " ")


def absent_laws(not_fitted: Mapping[str, str]) -> list[str]:
    """A line for each reason, with the laws that it holds for."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, reason in not_fitted.items():
        names[re.sub(r"^the law '[a-z-]+' ", "", reason)].append(name)
    return [f"{', '.join(laws)}: {reason}" for reason, laws in names.items()]


def _law_lines(law: FittedLaw, margin: int) -> list[str]:
    """Name and status in columns, beside them the parameters; below why it is weak, as far as there is room."""
    head = f"{law.name:<{margin}} {law.status.value:<6} "
    body = [line for words in _parameters(law) for line in _wrapped(words, len(head))]
    if law.status is not Status.OK:
        body += _wrapped(f"({law.reason or 'no reason was recorded'})", len(head), most=_REASON_LINES)
    first, *others = body or [""]
    return [f"{head}{first.lstrip()}".rstrip(), *others]


def _parameters(law: FittedLaw) -> list[str]:
    """A power law for each setting, or all parameters in a line."""
    settings = [name.removesuffix(".coefficient") for name in law.parameters if name.endswith(".coefficient")]
    if settings:
        return [_power_law(law, setting) for setting in settings]
    numbers = (f"{name} = {_interval(estimate)}" for name, estimate in law.parameters.items())
    return [", ".join(text.replace(" ", _JOINED) for text in numbers)]


def _power_law(law: FittedLaw, setting: str) -> str:
    factors = [
        f"{quantity}^{_interval(law.parameters[key])}".replace(" ", _JOINED)
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


def _left_out(laws: Sequence[FittedLaw]) -> list[str]:
    """For the commonest reasons how many runs are left out, and by which laws where these are few."""
    runs: dict[str, set[str]] = defaultdict(set)
    by: dict[str, list[str]] = defaultdict(list)
    for law in laws:
        for exclusion in law.runs_excluded:
            runs[exclusion.reason].add(exclusion.run)
            by[exclusion.reason] += [law.name] if law.name not in by[exclusion.reason] else []
    reasons = sorted(runs, key=lambda reason: -len(runs[reason]))
    words = [
        f"left out{_of_laws(by[reason], len(laws))}: {len(runs[reason])} {reason}" for reason in reasons[:_MOST_REASONS]
    ]
    others = sum(len(runs[reason]) for reason in reasons[_MOST_REASONS:])
    return [*words, f"left out: {others} for other reasons, listed by --json"] if others else words


def _of_laws(names: Sequence[str], laws: int) -> str:
    if len(names) == laws:
        return ""
    return f" of {', '.join(names)}" if len(names) <= _MOST_LAWS else f" of {len(names)} laws"


def _wrapped(text: str, indent: int, *, most: int | None = None) -> list[str]:
    """Lines of the width that is left beside the indent; of more than `most` the rest is left to --json."""
    room, margin = _WIDTH - indent, " " * indent
    lines = textwrap.wrap(text, room, max_lines=most, placeholder=" ... more with --json)")
    return [f"{margin}{line}" for line in lines]
