"""The short form of tests/benchmarks/calibration.py: intervals of all laws hold the planted truth as often as they say.

A hundred sweeps over all designs; five times as many are counted there.
"""

from dataclasses import replace

import pytest
from calibrating.checks import Check, Kind
from calibrating.designs import DESIGNS
from calibrating.tally import HIGHEST, LOWEST, MOST_WEAK, Outcome, coverage, jobs, run, weak

from orchestrator.laws.registry import NAMES
from orchestrator.laws.result import Estimate

SWEEPS = 100


@pytest.fixture(scope="module")
def outcomes():
    return [outcome for job in jobs(SWEEPS, draws=200) for outcome in run(job)]


def outcome(sweep, *held, reason=""):
    told = [
        Check(kind=Kind.PARAMETER, name="E", truth=1.0 if h else 3.0, told=Estimate(value=1, low=0, high=2))
        for h in held
    ]
    return Outcome(design="d", sweep=sweep, law="l", well_posed=True, checks=tuple(told), reason=reason)


def test_intervals_hold_parameters_and_predictions(outcomes):
    held = coverage(outcomes)
    assert held.high >= LOWEST
    assert held.low <= HIGHEST
    assert held.count > 700
    for kind in Kind:
        assert coverage(outcomes, kind).value >= 0.88


def test_well_posed_designs_are_not_called_weak(outcomes):
    assert weak([each for each in outcomes if each.well_posed]).low <= MOST_WEAK


def test_every_law_is_judged_and_fitted(outcomes):
    assert {each.law for each in outcomes if each.checks} == set(NAMES)
    assert {each.design for each in outcomes} == {design.name for design in DESIGNS}


def test_sweeps_are_shared_out_in_full():
    assert len(jobs(SWEEPS, draws=10)) == SWEEPS
    assert len(set(jobs(500, draws=10))) == 500


def test_a_job_repeats():
    job = replace(jobs(SWEEPS, draws=20)[0], sweep=3)
    assert run(job) == run(job)
    assert run(job) != run(replace(job, sweep=4))


def test_the_error_of_a_part_counts_sweeps_not_checks():
    few = [outcome(0, True), outcome(1, False), outcome(2, True), outcome(3, True)]
    many = [outcome(each.sweep, *(check.held for check in each.checks for _ in range(5))) for each in few]
    assert coverage(few).value == coverage(many).value == 0.75
    assert coverage(few).stderr == pytest.approx(coverage(many).stderr)
    assert coverage(few).stderr == pytest.approx((0.75 * 0.25 / 3) ** 0.5)
    assert coverage(few, Kind.PREDICTION).count == 0


def test_weak_fits_are_counted_whether_or_not_they_were_fitted():
    assert weak(
        [outcome(0, True), outcome(1, reason="too few"), outcome(2, True, reason="wide")]
    ).value == pytest.approx(2 / 3)


def test_an_open_interval_holds_nothing():
    assert not Check(kind=Kind.PARAMETER, name="E", truth=1.0, told=Estimate(value=1.0)).held
