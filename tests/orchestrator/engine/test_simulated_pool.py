"""The pool on a clock of its own: which trial ends when, what it measured, and how much room there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from orchestrator.engine.simulated import SimulatedPool
from orchestrator.ports import Assignment, AttemptEnded, Outcome, PointsArrived, Resources
from search_spaces.plan import Search
from search_spaces.space import HyperParameters
from trainers.api import TrialSpec
from trainers.synthetic import SyntheticTrainer

SMALL, LARGE = Resources(cpus=1, gpus=0.25), Resources(cpus=1, gpus=1.0)
SEARCHES = tiny.sweep().plan().searches


def pool(slots: int = 4, **options: object) -> SimulatedPool:
    def seconds(spec: TrialSpec) -> float:
        return float(spec.tokens)

    return SimulatedPool(trainer=SyntheticTrainer(options), slots=slots, smallest=SMALL, seconds=seconds)


def assignment(search: Search, key: str, resources: Resources = SMALL, rate: float | None = None) -> Assignment:
    settings = search.space.centre
    if rate is not None:
        settings = HyperParameters(learning_rate=rate, batch_size=settings.batch_size, beta2=settings.beta2)
    spec = TrialSpec(
        key=key,
        scale=search.cell.scale,
        tokens=search.cell.tokens,
        eval_tokens=search.eval_tokens,
        settings=settings,
        seed=0,
    )
    return Assignment(spec=spec, attempt=1, resources=resources, workspace=Path("nowhere") / key)


def test_the_shorter_trial_ends_first_and_the_clock_with_it() -> None:
    simulated = pool()
    simulated.submit(assignment(SEARCHES[1], "long"))
    simulated.submit(assignment(SEARCHES[0], "short"))
    points, end = simulated.wait(1.0)
    assert isinstance(points, PointsArrived)
    assert isinstance(end, AttemptEnded)
    assert (end.key, simulated.clock_s, simulated.busy) == ("short", SEARCHES[0].cell.tokens, 1)
    # What starts now ends so much later than what started before it.
    simulated.submit(assignment(SEARCHES[0], "next"))
    assert [simulated.wait(1.0)[-1].key for _ in range(2)] == ["next", "long"]
    assert simulated.clock_s == SEARCHES[1].cell.tokens


def test_a_trial_measures_what_was_planted() -> None:
    simulated = pool(noise_sd=0.0)
    search = SEARCHES[0]
    simulated.submit(assignment(search, "a"))
    points, end = simulated.wait(1.0)
    law = SyntheticTrainer({}).options.law
    scale = search.cell.scale
    expected = law.loss(scale.params, search.cell.tokens, search.space.centre, scale.sequence_length)
    assert isinstance(points, PointsArrived)
    assert [point.tokens for point in points.points] == list(search.eval_tokens)
    assert isinstance(end, AttemptEnded)
    assert end.outcome is Outcome.COMPLETED
    assert end.result is not None
    assert end.result.final_loss == pytest.approx(expected)
    assert end.result.seconds == search.cell.tokens


def test_too_high_a_learning_rate_diverges() -> None:
    simulated = pool(divergence_multiple=1.5)
    best = SyntheticTrainer({}).options.law.optimum(SEARCHES[0].cell.scale.params, SEARCHES[0].cell.tokens)
    simulated.submit(assignment(SEARCHES[0], "a", rate=2 * best.learning_rate))
    points, end = simulated.wait(1.0)
    assert isinstance(end, AttemptEnded)
    assert end.outcome is Outcome.DIVERGED
    assert "nan" in end.message
    assert isinstance(points, PointsArrived)
    assert len(points.points) == 1


def test_a_large_trial_takes_the_room_of_several() -> None:
    simulated = pool(slots=5)
    assert simulated.slots == 5
    simulated.submit(assignment(SEARCHES[0], "large", LARGE))
    assert simulated.has_room(SMALL)
    assert not simulated.has_room(LARGE)
    simulated.submit(assignment(SEARCHES[0], "small"))
    assert not simulated.has_room(SMALL)
    simulated.close()
    assert simulated.busy == 0
    assert pool(slots=1).has_room(LARGE)  # all of it, rather than never


def test_one_that_is_asked_to_leave_ends_as_paused() -> None:
    simulated = pool()
    simulated.start()
    simulated.check({"s1": LARGE})
    simulated.submit(assignment(SEARCHES[0], "a"))
    simulated.ask_to_leave("a")
    simulated.ask_to_leave("not there")
    (end,) = simulated.wait(1.0)
    assert isinstance(end, AttemptEnded)
    assert end.outcome is Outcome.PAUSED
    assert simulated.wait(1.0) == ()
