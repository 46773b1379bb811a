"""The learning rate's course."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.plan import Schedule
from trainers.lm.schedule import COSINE_FINAL, Course, default_warmup


def course(schedule: Schedule, warmup: int = 100, horizon: int = 1000) -> Course:
    return Course(schedule=schedule, warmup_tokens=warmup, horizon=horizon)


@pytest.mark.parametrize("schedule", Schedule)
def test_warmup_is_a_straight_line(schedule) -> None:
    assert [course(schedule).factor(tokens) for tokens in (1, 25, 50, 100)] == pytest.approx([0.01, 0.25, 0.5, 1.0])


def test_constant_serves_every_horizon() -> None:
    assert {course(Schedule.CONSTANT).factor(tokens) for tokens in range(100, 1001)} == {1.0}
    short, long = course(Schedule.CONSTANT, horizon=500), course(Schedule.CONSTANT, horizon=1000)
    assert [short.factor(t) for t in range(1, 501)] == [long.factor(t) for t in range(1, 501)]


def test_cosine_ends_at_a_tenth() -> None:
    cosine = course(Schedule.COSINE)
    assert cosine.factor(550) == pytest.approx((1 + COSINE_FINAL) / 2)
    assert cosine.factor(1000) == pytest.approx(COSINE_FINAL)


def test_wsd_decays_by_a_square_root_in_the_last_fifth() -> None:
    wsd = course(Schedule.WSD)
    assert wsd.factor(800) == 1.0
    assert wsd.factor(850) == pytest.approx(1 - math.sqrt(0.25))
    assert wsd.factor(1000) == 0.0


@given(st.sampled_from(Schedule), st.integers(0, 400), st.integers(401, 2000))
def test_never_above_one_nor_rising_after_warmup(schedule, warmup, horizon) -> None:
    factors = [course(schedule, warmup, horizon).factor(tokens) for tokens in range(max(1, warmup), horizon + 1)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(factors))


def test_default_warmup_is_n_or_a_quarter_of_the_shortest_cell() -> None:
    assert default_warmup(params=1000, shortest_tokens=20_000) == 1000
    assert default_warmup(params=1000, shortest_tokens=2000) == 500
