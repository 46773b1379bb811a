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
    assert not shunned.ill(NODES, now=0.0)
    deaths(shunned, "a", "x")
    assert shunned.ill(NODES, now=59.0) == {"a"}
    assert not shunned.ill(NODES, now=60.0)


def test_where_all_nodes_are_ill_it_is_not_the_nodes() -> None:
    shunned = Shunned()
    deaths(shunned, "a", "xyz")
    assert shunned.ill(NODES, now=0.0) == {"a"}
    deaths(shunned, "b", "xyz")
    assert not shunned.ill(NODES, now=0.0)
    shunned.ended("a", "x", None, 1.0)  # as a full disk is freed: the other node is none the worse
    assert not shunned.ill(NODES, now=1.0)


def test_it_is_left_out_longer_each_time_up_to_half_an_hour() -> None:
    shunned = Shunned()
    deaths(shunned, "a", "xyx")
    for number, seconds in enumerate((120.0, 240.0, 480.0, 960.0, 1800.0, 1800.0)):
        now = 10_000.0 * (number + 1)
        deaths(shunned, "a", "y", now)
        assert shunned.ill(NODES, now + seconds - 1) == {"a"}
        assert not shunned.ill(NODES, now + seconds)


@given(st.lists(st.sampled_from([Cause.USER_ERROR, Cause.BUG, Cause.TIMED_OUT, None])))
def test_a_node_is_not_blamed_for_what_is_not_its_own(causes: list[Cause | None]) -> None:
    shunned = Shunned()
    for number, cause in enumerate(causes):
        deaths(shunned, "a", "xy")
        shunned.ended("a", f"t{number}", cause, 0.0)
    assert not shunned.ill(NODES, now=0.0)


def test_a_trial_that_kills_its_workers_does_not_make_a_node_ill() -> None:
    shunned = Shunned()
    deaths(shunned, "a", "xxxxx")
    assert not shunned.ill(NODES, now=0.0)


@pytest.mark.parametrize("cause", [Cause.STORAGE_UNREACHABLE, Cause.NODE_LOST, Cause.PREEMPTED])
def test_what_is_not_of_a_nodes_workers_neither_helps_nor_harms_it(cause: Cause) -> None:
    shunned = Shunned()
    deaths(shunned, "a", "xy")
    shunned.ended("a", "x", cause, 0.0)
    deaths(shunned, "a", "x")
    assert shunned.ill(NODES, now=0.0) == {"a"}


def test_an_attempt_that_ends_well_there_brings_the_node_back(caplog: pytest.LogCaptureFixture) -> None:
    shunned = Shunned()
    deaths(shunned, "a", "xyz")
    shunned.ended("a", "w", None, 1.0)
    assert not shunned.ill(NODES, now=1.0)
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
    assert "node a (host) gets no trial for 50 s that another node can hold: 3 attempts in a row" in record.getMessage()
