"""Numbers as people write and read them: 7B, 1.4T, 3e-4."""

from __future__ import annotations

import math
import re

from search_spaces.errors import InputError

_LETTERS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


def parse_number(text: str, *, name: str) -> float:
    """A positive number such as 7e9, 7B, 1.4T or 124M. Raises InputError, with `name`, where it is none."""
    match = re.fullmatch(r"\s*(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)\s*([kmbt]?)\s*", text, re.IGNORECASE)
    value = float(match[1]) * _LETTERS.get(match[2].lower(), 1.0) if match else math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} is {text!r}; give a positive number such as 7e9, 7B or 1.4T")
    return value


def number(value: float | None, digits: int = 3) -> str:
    """A number in so many significant digits, with an exponent only where it helps; ? where it is not known."""
    if value is None or not math.isfinite(value):
        return "?"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    short = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{short}e{int(exponent)}"


def count(value: float | None, digits: int = 3) -> str:
    """A count of parameters or tokens with its letter: 124M, 1.4T."""
    if value is None or not 1e3 <= value < 1e15:
        return number(value, digits)
    for letter in ("t", "b", "m", "k"):
        # Rounding may carry a count over the letter's edge: 999.9k is 1M.
        if value >= _LETTERS[letter] * (1 - 0.5 * 10.0**-digits):
            return f"{number(value / _LETTERS[letter], digits)}{'k' if letter == 'k' else letter.upper()}"
    return number(value, digits)
