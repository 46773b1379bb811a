"""What is said of a sweep as a whole, from hand-written histories."""

from __future__ import annotations

import pytest
import tiny

from orchestrator.facts import CONTRADICTED, fell_back, sweep_tags, why_ended, why_over
from orchestrator.ledger import Closed, Event, History, Opened, Predicted, Proposed, Settled
from orchestrator.trial import Reason

PLAN = tiny.sweep().plan()
FIRST, SECOND = PLAN.searches[:2]
SETTLED = Settled(time=1.0, scale=FIRST.cell.scale.name, tokens=FIRST.cell.tokens, why="enough is known")


def opened() -> Opened:
    return Opened(time=0.0, sweep="tiny", sweep_id="i", plan="p", trainer_version="v", software="0", slots=2)


def proposed(number: int, reason: Reason = Reason.MODEL) -> Proposed:
    cell = FIRST.cell
    return Proposed(
        time=0.0,
        key=f"k{number}",
        number=number,
        scale=cell.scale.name,
        tokens=cell.tokens,
        settings=FIRST.space.centre,
        seed=number,
        reason=reason,
    )


def history(*events: Event) -> History:
    found = History()
    for event in events:
        found.apply(event)
    return found


def test_a_search_is_over_when_it_is_settled_or_has_had_its_trials() -> None:
    assert why_over(FIRST, history()) == ""
    assert why_over(FIRST, history(SETTLED)) == "settled: enough is known"
    assert why_over(SECOND, history(SETTLED)) == ""
    most = [proposed(number) for number in range(FIRST.trials - 1)]
    replicate = proposed(90, Reason.REPLICATE)
    assert why_over(FIRST, history(*most, replicate)) == ""
    assert why_over(FIRST, history(*most, proposed(91))) == "all of its trials were proposed"


def test_a_fallback_is_of_its_search() -> None:
    found = history(proposed(0), proposed(1, Reason.FALLBACK))
    assert fell_back(FIRST, found)
    assert not fell_back(SECOND, found)
    assert sweep_tags(PLAN, found) == {f"fallback {FIRST.name}": CONTRADICTED}


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ((), ""),
        ((Closed(time=9.0, how="done"),), "all trials were made"),
        ((SETTLED, Closed(time=9.0, how="done")), "every search is settled or has had all of its trials"),
        ((Closed(time=9.0, how="done", message="the budget is spent"),), "the budget is spent"),
        ((Closed(time=9.0, how="stopped"),), "it was stopped"),
        ((Closed(time=9.0, how="failed", message="no"), opened()), ""),
    ],
)
def test_what_stopped_the_sweep(events: tuple[Event, ...], why: str) -> None:
    assert why_ended(history(opened(), *events)) == why


def test_the_tags_of_a_whole_sweep() -> None:
    last = PLAN.searches[-1]
    predicted = Predicted(
        time=2.0,
        scale=last.cell.scale.name,
        tokens=last.cell.tokens,
        runs_used=36,
        prediction={"loss": {"value": 3.25, "low": 3.1, "high": 3.4}, "beta2": {"value": 0.98}, "warnings": []},
    )
    tags = sweep_tags(PLAN, history(opened(), SETTLED, predicted, Closed(time=9.0, how="done")))
    assert tags == {
        f"over {FIRST.name}": "settled: enough is known",
        f"predicted {last.name}": "from 36 runs: beta2 0.98, loss 3.25 [3.1, 3.4]",
        "ended": "every search is settled or has had all of its trials",
    }
    nothing = Predicted(time=2.0, scale="s4", tokens=last.cell.tokens, runs_used=0, prediction={"failed": "no"})
    assert sweep_tags(PLAN, history(nothing))[f"predicted {last.name}"] == "from 0 runs: no law says anything"
