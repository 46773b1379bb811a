"""Lines come back as they were written, or not at all."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.checked_lines import decode, encode

_VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_BODIES = st.dictionaries(st.text(), _VALUES | st.lists(_VALUES, max_size=3), max_size=4)


@settings(max_examples=100, deadline=None)
@given(_BODIES)
def test_a_line_says_what_was_written(body) -> None:
    line = encode(body)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert decode(line) == decode(line[:-1]) == body


def test_a_number_that_is_not_finite_comes_back() -> None:
    assert math.isnan(decode(encode({"loss": math.nan}))["loss"])


@settings(max_examples=200, deadline=None)
@given(_BODIES, st.data())
def test_a_flipped_bit_is_noticed(body, data) -> None:
    line = encode(body)[:-1]
    at, bit = data.draw(st.integers(0, len(line) - 1)), data.draw(st.integers(0, 7))
    with pytest.raises(ValueError, match="checksum"):
        decode(line[:at] + bytes([line[at] ^ 1 << bit]) + line[at + 1 :])


@settings(max_examples=50, deadline=None)
@given(_BODIES, st.data())
def test_a_cut_line_is_noticed(body, data) -> None:
    line = encode(body)[:-1]
    with pytest.raises(ValueError, match="checksum"):
        decode(line[: data.draw(st.integers(0, len(line) - 1))])
