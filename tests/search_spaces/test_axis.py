"""Axes: coordinates and back, edges, widening and narrowing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.axis import Axis, Fixed, LogUniform, OneMinusLog, PowersOfTwo
from search_spaces.errors import InputError

# At least a factor of two between the ends, as every searched setting has.
log_axes = st.builds(lambda low, factor: LogUniform(low, low * factor), st.floats(1e-8, 1e4), st.floats(2.0, 1e6))
power_axes = st.builds(
    lambda first, count: PowersOfTwo(2.0**first, 2.0 ** (first + count)), st.integers(0, 12), st.integers(1, 12)
)
one_minus_axes = st.builds(
    lambda gap, factor: OneMinusLog(1 - gap, 1 - gap / factor), st.floats(1e-3, 1.0), st.floats(2.0, 1e3)
)
axes = st.one_of(log_axes, power_axes, one_minus_axes)
places = st.floats(0.0, 1.0)
fractions = st.floats(0.05, 1.0)


def at(axis: Axis, place: float) -> float:
    """The value at a part of the way along the axis."""
    bottom = axis.coordinate(axis.low)
    return axis.value(bottom + place * (axis.coordinate(axis.high) - bottom))


@given(axes, places)
def test_every_value_may_be_tried_and_comes_back_from_its_coordinate(axis: Axis, place: float) -> None:
    value = at(axis, place)
    assert axis.contains(value)
    back = axis.value(axis.coordinate(value))
    gap = 1 - value if isinstance(axis, OneMinusLog) else value
    assert back == pytest.approx(value, abs=1e-3 * gap)


@given(log_axes, places)
def test_a_value_shows_all_its_digits_in_four(axis: LogUniform, place: float) -> None:
    value = at(axis, place)
    assert value in {axis.low, axis.high} or float(f"{value:.3e}") == value


@given(axes, places, places)
def test_the_coordinate_rises_with_the_value(axis: Axis, one: float, other: float) -> None:
    low, high = sorted((at(axis, one), at(axis, other)))
    assert axis.coordinate(low) <= axis.coordinate(high)


@given(axes, st.floats(-1e3, 1e3))
def test_any_coordinate_gives_a_value_inside(axis: Axis, coordinate: float) -> None:
    inside = min(max(coordinate, axis.coordinate(axis.low) - 20), axis.coordinate(axis.high) + 20)
    assert axis.contains(axis.value(inside))


@given(axes)
def test_both_ends_and_everything_outside_lie_on_an_edge(axis: Axis) -> None:
    beyond = 1 - (1 - axis.high) / 2 if isinstance(axis, OneMinusLog) else axis.high * 2
    assert axis.at_edge(axis.low)
    assert axis.at_edge(axis.high)
    assert axis.at_edge(beyond)
    assert not axis.contains(beyond)


@given(st.one_of(log_axes, one_minus_axes))
def test_the_middle_is_no_edge(axis: Axis) -> None:
    assert not axis.at_edge(axis.centre)


@given(axes, fractions)
def test_a_widened_axis_holds_the_old_one(axis: Axis, fraction: float) -> None:
    wide = axis.widen(fraction)
    assert wide.low <= axis.low
    assert wide.high >= axis.high
    assert wide.span >= axis.span


@given(axes)
def test_widening_by_nothing_never_shrinks(axis: Axis) -> None:
    wide = axis.widen(0.0)
    assert wide.low <= axis.low
    assert wide.high >= axis.high


@given(axes, places, fractions)
def test_a_narrowed_axis_lies_inside_and_holds_its_centre(axis: Axis, place: float, fraction: float) -> None:
    centre = at(axis, place)
    small = axis.narrow(centre, fraction)
    assert axis.low <= small.low < small.high <= axis.high
    slack = 1e-3  # bounds are rounded to four digits
    assert small.coordinate(small.low) - slack <= axis.coordinate(centre) <= small.coordinate(small.high) + slack


@given(log_axes, places, fractions)
def test_a_narrowed_axis_is_a_fraction_as_long(axis: LogUniform, place: float, fraction: float) -> None:
    assert axis.narrow(at(axis, place), fraction).span == pytest.approx(fraction * axis.span, abs=2e-3)


@given(power_axes)
def test_powers_of_two_are_all_of_them(axis: PowersOfTwo) -> None:
    values = axis.values()
    assert values[0] == axis.low
    assert values[-1] == axis.high
    assert all(later == 2 * earlier for earlier, later in itertools.pairwise(values))
    assert all(axis.contains(value) for value in values)
    assert not axis.contains(1.5 * axis.low)


def test_the_nearest_power_of_two_is_taken_by_logarithm() -> None:
    axis = PowersOfTwo(1, 64)
    assert axis.value(math.log(11)) == 8  # 8·sqrt(2) = 11.3 is the border
    assert axis.value(math.log(12)) == 16


def test_only_the_first_and_last_power_are_edges() -> None:
    axis = PowersOfTwo(1, 8)
    assert [axis.at_edge(value) for value in axis.values()] == [True, False, False, True]


def test_beta2_is_searched_by_its_averaging_length() -> None:
    axis = OneMinusLog(0.9, 0.999)
    assert axis.coordinate(0.99) == pytest.approx(math.log(100))
    assert axis.centre == pytest.approx(0.99)


def test_beta2_may_start_at_zero_and_never_widens_to_one() -> None:
    assert OneMinusLog(0.0, 0.99).widen(0.5).low == 0.0
    wide = OneMinusLog(0.9, 0.99999).widen(10.0)
    assert wide.high == pytest.approx(1 - 1e-8)
    assert wide.widen(10.0) == wide


def test_a_fixed_setting_has_no_edge_and_does_not_move() -> None:
    axis = Fixed(0.95)
    assert axis.value(axis.coordinate(0.3)) == 0.95
    assert axis.contains(0.95)
    assert not axis.contains(0.9)
    assert not axis.at_edge(0.95)
    assert axis.widen(1.0) == axis == axis.narrow(0.5, 0.1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LogUniform(0.0, 1.0), "the range is 0 to 1; both must be above 0"),
        (lambda: LogUniform(-1e-3, 1.0), "both must be above 0"),
        (lambda: LogUniform(2.0, 1.0), "low is 2 and high is 1; low must be below high"),
        (lambda: LogUniform(1.0, 1.0), "a single value is fixed"),
        (lambda: LogUniform(1.0, math.inf), "both must be finite"),
        (lambda: LogUniform(math.nan, 1.0), "both must be finite"),
        (lambda: PowersOfTwo(1, 12), "12 is not a power of two"),
        (lambda: PowersOfTwo(0.5, 8), "0.5 is not a power of two"),
        (lambda: PowersOfTwo(1, math.nan), "both must be finite"),
        (lambda: OneMinusLog(0.9, 1.0), r"both must be in \[0, 1\)"),
        (lambda: OneMinusLog(-0.1, 0.9), r"both must be in \[0, 1\)"),
        (lambda: Fixed(math.nan), "it must be a finite number"),
    ],
)
def test_a_bad_range_is_refused_with_its_values(make: Callable[[], Axis], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()
