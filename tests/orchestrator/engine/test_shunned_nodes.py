"""Which nodes get no new trial for a while."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.nodes import NodeSize
from orchestrator.engine.shunned import Shunned
from trainers.api import Cause

NODES = {name: NodeSize(cpus=1) for name in ("a", "b")}
LOST = Cause.WORKER_LOST


def deaths(shunned: Shunned, node: str, keys: str, now: float = 0.0) -> None:
    for key in keys:
        shunned.ended(node, key, LOST, now)


def test_a_silent_node_is_left_out_for_a_minute_even_if_it_is_the_only_one() -> None:
    shunned = Shunned()
    shunned.silent("a", now=10.0)
    assert not shunned.heard({"a": NODES["a"]}, now=69.0)
    assert set(shunned.heard(NODES, now=70.0)) == {"a", "b"}


def test_a_node_where_every_worker_dies_is_left_out_while_another_works() -> None:
    shunned = Shunned()
    deaths(shunned, "a", "xy")
    assert set(shunned.well(NODES, now=0.0)) == {"a", "b"}
    deaths(shunned, "a", "x")
    assert set(shunned.well(NODES, now=59.0)) == {"b"}
    assert set(shunned.well({"a": NODES["a"]}, now=59.0)) == {"a"}  # nobody is better
    assert set(shunned.well(NODES, now=60.0)) == {"a", "b"}


def test_it_is_left_out_longer_each_time_up_to_half_an_hour() -> None:
    shunned = Shunned()
    deaths(shunned, "a", "xyx")
    for number, seconds in enumerate((120.0, 240.0, 480.0, 960.0, 1800.0, 1800.0)):
        now = 10_000.0 * (number + 1)
        deaths(shunned, "a", "y", now)
        assert set(shunned.well(NODES, now + seconds - 1)) == {"b"}
        assert set(shunned.well(NODES, now + seconds)) == {"a", "b"}


@given(
    st.lists(st.sampled_from([Cause.USER_ERROR, Cause.BUG, Cause.TIMED_OUT, Cause.PREEMPTED, Cause.NODE_LOST, None]))
)
def test_a_node_is_not_blamed_for_what_is_not_its_own(causes: list[Cause | None]) -> None:
    shunned = Shunned()
    for number, cause in enumerate(causes):
        deaths(shunned, "a", "xy")
        shunned.ended("a", f"t{number}", cause, 0.0)
    assert set(shunned.well(NODES, now=0.0)) == {"a", "b"}


def test_a_trial_that_kills_its_workers_does_not_make_a_node_ill() -> None:
    shunned = Shunned()
    deaths(shunned, "a", "xxxxx")
    assert set(shunned.well(NODES, now=0.0)) == {"a", "b"}


def test_an_outage_of_the_storage_says_nothing_of_a_node() -> None:
    shunned = Shunned()
    deaths(shunned, "a", "xy")
    shunned.ended("a", "x", Cause.STORAGE_UNREACHABLE, 0.0)
    deaths(shunned, "a", "x")
    assert set(shunned.well(NODES, now=0.0)) == {"b"}


def test_an_attempt_that_ends_well_there_brings_the_node_back(caplog: pytest.LogCaptureFixture) -> None:
    shunned = Shunned()
    deaths(shunned, "a", "xyz")
    shunned.ended("a", "w", None, 1.0)
    assert set(shunned.well(NODES, now=1.0)) == {"a", "b"}
    with caplog.at_level(logging.WARNING):
        shunned.warn(str, now=1.0)
    assert not caplog.records


def test_it_is_said_once_which_node_and_for_how_long(caplog: pytest.LogCaptureFixture) -> None:
    shunned = Shunned()
    deaths(shunned, "a", "xyz")
    with caplog.at_level(logging.WARNING):
        shunned.warn(lambda node: f"{node} (host)", now=10.0)
        shunned.warn(lambda node: f"{node} (host)", now=20.0)
    (record,) = caplog.records
    assert "node a (host) gets no trial for 50 s while others can: 3 attempts in a row" in record.getMessage()
