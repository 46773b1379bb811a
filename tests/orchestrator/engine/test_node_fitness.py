"""Which nodes are left out since the trainer cannot be built there."""

from __future__ import annotations

import logging

import pytest

from orchestrator.engine.fitness import Fitness
from orchestrator.engine.nodes import NodeSize
from search_spaces.errors import InputError

NODES = {name: NodeSize(cpus=1) for name in ("a", "b", "c")}
REASON = InputError("this worker's trainer is 1, and the sweep's is 2")


def test_a_node_is_untried_until_a_worker_there_has_built_its_trainer_or_could_not() -> None:
    fitness = Fitness()
    fitness.proved("a")
    fitness.failed("b", REASON)
    assert set(fitness.proven(NODES)) == {"a"}
    assert set(fitness.untried(NODES)) == {"c"}


def test_one_worker_that_cannot_build_rules_its_node_out_in_any_order() -> None:
    for first in (True, False):
        fitness = Fitness()
        if first:
            fitness.proved("a")
        fitness.failed("a", REASON)
        fitness.proved("a")
        assert not fitness.proven(NODES)
        assert "a" not in fitness.untried(NODES)


def test_each_node_is_named_once_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    fitness = Fitness()
    for _ in range(2):
        fitness.failed("a", REASON)
        with caplog.at_level(logging.WARNING):
            fitness.warn(lambda node: f"{node} (host)")
    assert [record.getMessage() for record in caplog.records] == [
        f"node a (host) is left out: the trainer cannot be built there: {REASON}"
    ]


def test_where_no_node_could_the_first_reason_is_raised() -> None:
    fitness = Fitness()
    fitness.raise_reason()
    fitness.failed("a", REASON)
    fitness.failed("b", InputError("another"))
    with pytest.raises(InputError, match="the sweep's is 2"):
        fitness.raise_reason()


def test_unfit_nodes_that_stay_alone_are_the_sweeps_error_after_minutes() -> None:
    fitness = Fitness()
    fitness.failed("a", REASON)
    unfit, both = {"a": NODES["a"]}, {name: NODES[name] for name in "ab"}
    fitness.check(unfit, now=0.0)
    fitness.check(unfit, now=299.0)
    fitness.check(both, now=300.0)  # one joined that may be able to
    fitness.check(unfit, now=310.0)
    fitness.check({}, now=600.0)  # nobody is there: an autoscaler may be at work
    fitness.check(unfit, now=601.0)
    fitness.check(unfit, now=900.0)
    with pytest.raises(InputError, match="the sweep's is 2"):
        fitness.check(unfit, now=902.0)
