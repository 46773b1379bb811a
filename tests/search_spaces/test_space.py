"""Points of a space: the nearest one, its edges, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.axis import Axis, Fixed, LogUniform, OneMinusLog, PowersOfTwo
from search_spaces.errors import InputError
from search_spaces.space import HyperParameters, SearchSpace

SPACE = SearchSpace(learning_rate=LogUniform(1e-4, 1e-1), batch_size=PowersOfTwo(1, 64), beta2=OneMinusLog(0.9, 0.999))
values = st.fixed_dictionaries(
    {
        "learning_rate": st.floats(1e-9, 1e3),
        "batch_size": st.floats(0.1, 1e4),
        "beta2": st.floats(0.0, 0.99999),
    }
)


@given(values)
def test_the_nearest_point_is_valid_and_its_own_nearest(wanted: dict[str, float]) -> None:
    point = SPACE.at(wanted)
    SPACE.validate(point)
    again = SPACE.at({name: getattr(point, name) for name in SPACE.axes()})
    assert again.learning_rate == pytest.approx(point.learning_rate, rel=1e-3)
    assert again.batch_size == point.batch_size
    assert again.beta2 == pytest.approx(point.beta2, abs=1e-6)


@given(values, st.floats(0.05, 1.0))
def test_a_point_of_a_narrowed_space_is_a_point_of_the_whole(wanted: dict[str, float], fraction: float) -> None:
    small = SPACE.narrow(SPACE.at(wanted), fraction)
    SPACE.validate(small.centre)


def test_the_centre_lies_in_the_middle_by_logarithm() -> None:
    assert SPACE.centre == HyperParameters(learning_rate=3.162e-3, batch_size=8, beta2=0.99)


def test_edges_are_named() -> None:
    corner = HyperParameters(learning_rate=1e-4, batch_size=8, beta2=0.999)
    assert SPACE.edges(corner) == ("learning_rate", "beta2")
    assert SPACE.edges(SPACE.centre) == ()


def test_only_the_named_axes_are_widened() -> None:
    wide = SPACE.widen(("learning_rate",), 0.5)
    assert wide.learning_rate.low < 1e-4
    assert wide.learning_rate.high > 1e-1
    assert wide.batch_size == SPACE.batch_size
    assert wide.beta2 == SPACE.beta2


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(InputError, match="needs batch_size, beta2 too"):
        SPACE.at({"learning_rate": 1e-3})


@pytest.mark.parametrize(
    ("point", "words"),
    [
        (
            HyperParameters(learning_rate=1.0, batch_size=8, beta2=0.95),
            "learning_rate is 1; the space has 0.0001 to 0.1",
        ),
        (HyperParameters(learning_rate=1e-3, batch_size=12, beta2=0.95), "batch_size is 12; the space has 1 to 64"),
        (HyperParameters(learning_rate=1e-3, batch_size=8, beta2=0.5), "beta2 is 0.5; the space has 0.9 to 0.999"),
    ],
)
def test_a_point_outside_is_refused_by_name(point: HyperParameters, words: str) -> None:
    with pytest.raises(InputError, match=words):
        SPACE.validate(point)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate": -1e-3}, "learning_rate is -0.001"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"learning_rate": math.inf}, "learning_rate is inf"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"beta2": 1.0}, "beta2 is 1"),
        ({"beta2": -0.1}, "beta2 is -0.1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        HyperParameters(**({"learning_rate": 1e-3, "batch_size": 8, "beta2": 0.95} | settings))


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"batch_size": LogUniform(1.0, 64.0)}, "give powers of two or one whole number"),
        ({"batch_size": Fixed(2.5)}, "give powers of two or one whole number"),
        ({"batch_size": Fixed(0)}, "batch_size is 0"),
        ({"learning_rate": Fixed(-1.0)}, "learning_rate is -1"),
        ({"beta2": LogUniform(0.5, 2.0)}, "beta2 is 2"),
    ],
)
def test_a_space_that_holds_impossible_settings_is_refused(axes: dict[str, Axis], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SearchSpace(**(SPACE.axes() | axes))
