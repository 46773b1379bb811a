import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.numbers import count, number, parse_number
from search_spaces.errors import InputError


@pytest.mark.parametrize(
    ("text", "value"),
    [("7e9", 7e9), ("7B", 7e9), ("1.4T", 1.4e12), ("124m", 124e6), ("512 k", 512e3), (".5B", 5e8), ("1E+21", 1e21)],
)
def test_numbers_as_people_write_them(text, value):
    assert math.isclose(parse_number(text, name="--params"), value, rel_tol=1e-15)


@pytest.mark.parametrize("text", ["", "7Z", "-7B", "0", "nan", "inf", "1e999", "7BB", "1,000", "B"])
def test_what_is_no_positive_number_is_refused(text):
    with pytest.raises(InputError, match="--params is"):
        parse_number(text, name="--params")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (1234.5, "1234"), (1.5e9, "1.5e9"), (3e-5, "3e-5"), (None, "?"), (math.nan, "?"), (0.0, "0")],
)
def test_numbers_for_people(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(7e9, "7B"), (1.4e12, "1.4T"), (999_999, "1M"), (512, "512"), (12_345, "12.3k"), (1e21, "1e21")],
)
def test_counts_for_people(value, text):
    assert count(value) == text


@given(st.floats(1, 1e14))
def test_a_count_reads_back_to_three_digits(value):
    assert math.isclose(parse_number(count(value), name="x"), value, rel_tol=6e-3)
