"""A sweep played through on the planted law: the real loop, nothing trained, the same every time."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import tiny
from shell import write_sweep

from orchestrator.cli import main
from orchestrator.config import SweepFile
from orchestrator.simulation.outcome import PARTS, Simulation
from orchestrator.simulation.play import ASSUMED_SLOTS, LARGER, MOST_TRIALS, simulate, target_of
from orchestrator.simulation.text import as_json, as_text
from orchestrator.trial import Reason
from search_spaces.errors import InputError

# The planted batch at the smallest scale is 8 sequences, at the largest 60.
SPACE = tiny.content()["space"] | {"batch_size": {"low": 1, "high": 256}}
GUIDED = {
    "sampler": "law-guided",
    "trials": 10,
    "tokens_per_param": [40],
    "space": SPACE,
    "target": {"params": 1e5},
    "stop": {"regret": "0.2%"},
}


def played(sweep: SweepFile) -> Simulation:
    return simulate(sweep, {}, lambda _: None)


@pytest.fixture(scope="module")
def guided() -> tuple[SweepFile, Simulation, list[int]]:
    """A sweep with a target, and the counts of ended trials that were told on the way."""
    sweep, told = tiny.sweep(**GUIDED), []
    return sweep, simulate(sweep, {}, told.append), told


def test_the_whole_sweep_is_divided_over_the_ladder(guided) -> None:
    sweep, found, told = guided
    plan = sweep.plan()
    assert [share.name for share in found.searches] == [search.name for search in plan.searches]
    for share, search in zip(found.searches, plan.searches, strict=True):
        assert sum(share.reasons.values()) == share.trials <= share.planned == search.planned_trials
        assert share.flops == share.trials * search.cell.flops()
    assert found.trials == told[-1]
    assert 0 < found.flops <= found.planned_flops == plan.flops()
    assert Reason.PREDICTED in found.searches[-1].reasons
    assert told == sorted(told)


def test_more_flops_tell_more_of_the_target(guided) -> None:
    _, found, _ = guided
    assert [at.part for at in found.course] == list(PARTS)
    known = [at for at in found.course if at.expected_regret is not None]
    assert len(known) >= 2
    assert known[-1].expected_regret < known[0].expected_regret
    assert known[-1].loss_error < known[0].loss_error
    assert (found.course[-1].trials, found.course[-1].flops) == (found.trials, found.flops)
    assert [at.flops for at in found.course] == sorted(at.flops for at in found.course)


def test_it_stops_where_the_target_is_known_well_enough() -> None:
    sweep = tiny.sweep(scales=1, **GUIDED | {"stop": {"regret": "90%"}})
    found = played(sweep)
    assert "the target's expected regret is" in found.stopped
    assert found.trials < sweep.plan().trials
    assert found.course[-1].expected_regret < 0.9


def test_the_laws_are_held_against_what_was_planted(guided) -> None:
    _, found, _ = guided
    assert found.fits.prediction is not None
    said = found.fits.prediction.quantities["learning_rate"]
    assert said.value == pytest.approx(found.planted["learning_rate"], rel=0.5)
    exponent = found.fits.exponents["hyperparameters"]
    assert any(name.startswith("learning_rate.") for name in exponent)
    assert all(estimate.low < estimate.value < estimate.high for estimate in exponent.values())


def test_the_same_sweep_is_played_the_same(guided) -> None:
    sweep, found, _ = guided
    assert as_json(played(sweep)) == as_json(found)


def test_its_words_and_numbers(guided) -> None:
    _, found, _ = guided
    said = as_text(found)
    for words in ("assumed surface", "Hoffmann", "Step Law", "The target: 100k params", "planted", found.stopped):
        assert words in said
    for share in found.searches:
        assert share.name in said
    for part in PARTS:
        assert f"{part:.0%}" in said
    body = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert body["assumed"] is True
    assert (body["trials"], body["flops"]) == (found.trials, found.flops)
    assert body["searches"][0]["reasons"] == {reason.value: n for reason, n in found.searches[0].reasons.items()}
    assert body["course"][-1]["expected_regret"] == found.course[-1].expected_regret
    assert {"learning_rate", "loss"} <= set(body["planted"])


def test_a_budget_of_device_hours_is_counted_on_the_simulated_clock() -> None:
    whole = {**GUIDED, "stop": None}
    sweep = tiny.sweep(**whole)
    hours = sweep.plan().flops() / 2e10 / 3600
    found = played(tiny.sweep(**whole, budget={"device_hours": hours / 20}))
    assert "device_hours" in found.stopped
    assert hours / 20 <= found.seconds * found.slots / 3600
    assert found.flops < sweep.plan().flops() / 4


def test_without_a_target_the_outlook_is_for_a_larger_run() -> None:
    sweep = tiny.sweep(scales=1, trials=4)
    assert target_of(sweep) == (4 * sweep.scales()[0].params, 80 * sweep.scales()[0].params)
    assert LARGER == 4
    found = played(sweep)
    assert not found.wanted
    assert found.trials == sweep.plan().trials
    assert found.stopped == "all trials were made"
    assert found.searches[0].reasons == {Reason.SAMPLER: 4, Reason.REPLICATE: 1}
    assert "No target is given" in as_text(found)


def test_a_grid_can_be_played_too() -> None:
    found = played(tiny.sweep(scales=2, sampler="grid", trials=8, replicates=1))
    assert found.trials == 16


def test_an_optimum_outside_of_the_space_is_said() -> None:
    space = tiny.content()["space"] | {"learning_rate": {"low": 1e-5, "high": 1e-4}}
    found = played(tiny.sweep(scales=1, space=space))
    assert "learning_rate" in found.outside[0]
    assert "outside of the space in s1" in as_text(found)


def test_the_sweeps_own_synthetic_law_is_the_planted_one() -> None:
    law = {"learning_rate": {"coefficient": 0.05}}
    found = played(tiny.sweep(scales=1, trainer={"name": "synthetic", "law": law, "seconds_per_trial": 9.0}))
    assert found.planted["learning_rate"] == 0.05


def test_slots_where_nothing_says_how_many() -> None:
    found = played(tiny.sweep(scales=1, cluster={"address": "auto"}))
    assert found.slots == ASSUMED_SLOTS
    assert played(tiny.sweep(scales=1, cluster={"address": "auto", "workers": 3})).slots == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": {"learning_rate": 0.1, "batch_size": 4, "beta2": 0.99}}, "every setting of the space is fixed"),
        ({"trials": MOST_TRIALS}, "fewer"),
    ],
)
def test_what_cannot_be_simulated_is_said(changes, words) -> None:
    with pytest.raises(InputError, match=words):
        played(tiny.sweep(**changes))


def test_the_verb_in_words_and_for_programs(tmp_path: Path) -> None:
    path = str(tmp_path / write_sweep(tmp_path, tiny.content(scales=1)))
    with redirect_stdout(io.StringIO()) as said, redirect_stderr(io.StringIO()):
        assert main(["plan", path, "--simulate"]) == 0
    assert "What this design can tell" in said.getvalue()
    assert "How the budget is divided" in said.getvalue()
    with redirect_stdout(io.StringIO()) as said, redirect_stderr(io.StringIO()):
        assert main(["plan", path, "--simulate", "--json"]) == 0
    body = json.loads(said.getvalue())
    assert body["simulation"]["trials"] == body["trials"] == 4
    with redirect_stdout(io.StringIO()) as said:
        assert main(["plan", path, "--json"]) == 0
    assert "simulation" not in json.loads(said.getvalue())
