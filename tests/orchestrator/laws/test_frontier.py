import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.laws import frontier
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Status
from search_spaces.errors import FitError

POINTS = Path(__file__).parents[4] / "shared" / "data" / "chinchilla_points.csv"
TABLE = Path(__file__).parents[4] / "shared" / "data" / "porian_isoflop_refinedweb.csv"
PLANTED = {"A": 1000.0, "alpha": 0.16, "E": 1.7}


def planted_runs(rng, *, noise=0.001, budgets=12, sizes=7, flops=(1e15, 1e20)):
    """Runs at equal compute whose lowest loss is the planted frontier, at N = sqrt(C / 120)."""
    records = []
    for compute in np.geomspace(*flops, budgets):
        best = np.sqrt(compute / 120)
        for shift in np.linspace(-1.2, 1.2, sizes) + rng.uniform(-0.15, 0.15):
            loss = float(frontier.loss(PLANTED, compute)) * (1 + 0.01 * shift**2)
            params = best * np.exp(shift)
            records.append(
                RunRecord(
                    run_id=f"{compute:.4g} {shift:.4g}",
                    params=params,
                    tokens=compute / (6 * params),
                    flops=compute,
                    loss=loss * np.exp(noise * rng.standard_normal()),
                )
            )
    return records


def published_runs(*, most_flops):
    if not TABLE.exists():
        pytest.skip("the table porian_isoflop_refinedweb.csv of the shared data is not there")
    with TABLE.open() as file:
        rows = [row for row in csv.DictReader(file) if row["config"] == "tuned-short-const-standard"]
    names = ("params", "tokens", "flops", "loss")
    records = [RunRecord(run_id=str(at), **{n: float(row[n]) for n in names}) for at, row in enumerate(rows)]
    return [record for record in records if record.flops < most_flops]


def test_a_planted_frontier_is_recovered():
    law = frontier.fit(planted_runs(np.random.default_rng(0), noise=0.0002), draws=200)
    assert law.status is Status.OK
    assert law.value("E") == pytest.approx(PLANTED["E"], abs=0.05)
    assert law.value("alpha") == pytest.approx(PLANTED["alpha"], abs=0.01)
    assert len(law.tables["frontier"]) == 12


def test_intervals_cover_the_planted_frontier():
    covered = 0
    for sweep in range(20):
        law = frontier.fit(planted_runs(np.random.default_rng(sweep)), draws=100, seed=sweep)
        low, high = law.parameters["alpha"].low, law.parameters["alpha"].high
        covered += low <= PLANTED["alpha"] <= high
    assert covered >= 17


def test_porians_window_gives_his_constants_and_the_offset_falls_as_it_grows():
    narrow = frontier.fit(published_runs(most_flops=5e17), draws=200)
    assert narrow.status is Status.WEAK
    whole = frontier.fit(published_runs(most_flops=1e21), draws=200)
    assert whole.value("alpha") == pytest.approx(0.0901, abs=0.002)
    assert whole.value("E") == pytest.approx(1.633, abs=0.03)
    assert whole.value("A") == pytest.approx(82.0, rel=0.05)
    offsets = [row["E"] for row in whole.tables["windows"]] + [whole.value("E")]
    assert offsets == sorted(offsets, reverse=True)


def test_a_straight_line_in_logarithms_has_no_offset_and_is_weak():
    records = []
    for record in planted_runs(np.random.default_rng(1)):
        ratio = record.loss / float(frontier.loss(PLANTED, record.flops))
        loss = ratio * 40 * record.flops**-0.06
        records.append(
            RunRecord(run_id=record.run_id, params=record.params, tokens=record.tokens, flops=record.flops, loss=loss)
        )
    law = frontier.fit(records, draws=200)
    assert law.status is Status.WEAK
    assert "E" in law.reason


def test_single_runs_at_each_compute_are_taken_as_they_are_and_said():
    records = [
        RunRecord(
            run_id=f"{c:.3g}",
            params=np.sqrt(c / 120),
            tokens=np.sqrt(c / 0.3),
            flops=c,
            loss=float(frontier.loss(PLANTED, c)),
        )
        for c in np.geomspace(1e15, 1e20, 10)
    ]
    worse = RunRecord(run_id="worse", params=1e8, tokens=1e9, flops=3e19, loss=9.0)
    law = frontier.fit([*records, worse], draws=100)
    assert law.value("alpha") == pytest.approx(PLANTED["alpha"], abs=0.005)
    assert law.status is Status.WEAK
    assert "no cheaper one beats" in law.reason
    assert len(law.tables["frontier"]) == 10


def test_too_few_budgets_are_refused():
    records = [RunRecord(run_id=str(c), params=1e6 * c, tokens=1e8, loss=4.0 - c) for c in (1, 2, 3)]
    with pytest.raises(FitError, match="at least 4"):
        frontier.fit(records)


def test_sizes_that_differ_by_rounding_alone_do_not_bend_the_frontier():
    """A spline through two readings of one size, 1e-7 apart, once dived to a loss of 1e-261."""
    rng = np.random.default_rng(0)
    runs = planted_runs(rng, noise=0.0005)
    again = [
        replace(
            run, run_id=f"{run.run_id}b", params=run.params * (1 + 3e-7), loss=run.loss * (1 + 0.003 * rng.random())
        )
        for run in runs
    ]
    law = frontier.fit(runs + again, draws=100)
    alone = frontier.fit(runs, draws=100)
    assert law.value("E") == pytest.approx(alone.value("E"), abs=0.03)
    assert law.value("alpha") == pytest.approx(alone.value("alpha"), abs=0.005)


def test_a_loss_that_is_no_loss_gives_no_warning_and_no_false_confidence():
    runs = planted_runs(np.random.default_rng(0))
    lowest = min(range(len(runs)), key=lambda at: runs[at].loss)
    broken = [replace(run, loss=1e-260) if at == lowest - 2 else run for at, run in enumerate(runs)]
    law = frontier.fit(broken, draws=100)
    assert all(np.isfinite(estimate.value) for estimate in law.parameters.values())


def test_the_whole_digitised_table_of_hoffmann_gives_finite_numbers():
    if not POINTS.exists():
        pytest.skip("the table chinchilla_points.csv of the shared data is not there")
    with POINTS.open() as file:
        rows = list(csv.DictReader(file))
    law = frontier.fit(
        [RunRecord(run_id=str(at), **{n: float(v) for n, v in row.items()}) for at, row in enumerate(rows)]
    )
    assert 1.4 < law.value("E") < 2.1
    assert 0.1 < law.value("alpha") < 0.25
