import csv
from pathlib import Path

import numpy as np
import pytest
from planted_tables import HOFFMANN, hoffmann, ladder_runs

from orchestrator.laws import chinchilla
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Status
from search_spaces.errors import FitError, MissingColumnError

POINTS = Path(__file__).parents[4] / "shared" / "data" / "chinchilla_points.csv"
PLANTED = HOFFMANN | {"a": 0.37 / 0.72}


def planted_runs(rng, *, scales=6, horizons=5, noise=0.005, curves=False):
    """Runs on the planted surface; with `curves` the horizons of a scale are points of one run."""
    sizes, ratios = np.geomspace(2e6, 3e8, scales), np.geomspace(5, 160, horizons)
    return ladder_runs(rng, hoffmann, params=sizes, tokens=lambda n: n * ratios, noise=noise, curves=curves)


def published_points():
    if not POINTS.exists():
        pytest.skip("the table chinchilla_points.csv of the shared data is not there")
    with POINTS.open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["loss"]))[:-5]
    names = ("params", "tokens", "flops", "loss")
    return [RunRecord(run_id=str(at), **{n: float(row[n]) for n in names}) for at, row in enumerate(rows)]


def test_the_published_points_give_the_converged_optimum_and_the_published_errors():
    law = chinchilla.fit(published_points(), draws=400)
    assert law.objective <= 0.00101828
    optimum = {"A": 477.826, "B": 2143.417, "E": 1.817218, "alpha": 0.347310, "beta": 0.367172}
    for name, value in optimum.items():
        assert law.value(name) == pytest.approx(value, rel=1e-5), name
    published = {
        "A": (124.5, 0.15),
        "B": (1293, 0.35),
        "E": (0.0257, 0.15),
        "alpha": (0.0154, 0.15),
        "beta": (0.0206, 0.15),
    }
    for name, (stderr, tolerance) in published.items():
        assert law.parameters[name].stderr == pytest.approx(stderr, rel=tolerance), name
    assert law.value("a") == pytest.approx(0.513, abs=0.002)
    assert law.status is Status.OK
    assert law.runs_used == 240


def test_the_allocation_is_where_no_other_split_of_the_compute_is_better():
    flops = np.geomspace(1e18, 1e24, 5)
    best = chinchilla.optimal_params(PLANTED, flops)
    tokens = chinchilla.optimal_tokens(PLANTED, flops)
    assert 6 * best * tokens == pytest.approx(flops)
    lowest = chinchilla.loss(PLANTED, best, tokens)
    for factor in (0.9, 1.1):
        assert (chinchilla.loss(PLANTED, best * factor, tokens / factor) > lowest).all()
    doubled = chinchilla.optimal_params(PLANTED, 2 * flops) / best
    assert doubled == pytest.approx(np.full(5, 2 ** PLANTED["a"]))


def test_hoffmanns_constants_give_the_reference_allocation():
    hoffmann = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    assert chinchilla.optimal_params(hoffmann, 5.76e23) == pytest.approx(32.2e9, rel=0.01)


def test_formulas_take_draws():
    draws = {name: np.array([value, 1.01 * value]) for name, value in PLANTED.items()}
    found = chinchilla.loss({name: column[:, None] for name, column in draws.items()}, [1e8, 1e9, 1e10], 1e10)
    assert found.shape == (2, 3)


@pytest.mark.parametrize("curves", [False, True])
def test_intervals_cover_planted_values(curves):
    rng = np.random.default_rng(1)
    sweeps, names = 20, ("E", "alpha", "beta", "a")
    covered = 0
    for sweep in range(sweeps):
        law = chinchilla.fit(planted_runs(rng, curves=curves, scales=7), draws=100, seed=sweep)
        for name in names:
            estimate = law.parameters[name]
            covered += estimate.low <= PLANTED[name] <= estimate.high
    assert covered / (sweeps * len(names)) > 0.88


def test_a_tiny_table_gives_a_weak_law_that_says_why():
    records = planted_runs(np.random.default_rng(0), scales=4, horizons=3)
    law = chinchilla.fit(records, draws=100)
    assert law.status is Status.WEAK
    assert "only 4 scales" in law.reason


def test_a_law_without_offset_is_weak():
    records = [
        RunRecord(run_id=f"{n:g} {d:g}", params=n, tokens=d, loss=float(30 * n**-0.1 + 30 * d**-0.1))
        for n in np.geomspace(1e6, 1e8, 6)
        for d in np.geomspace(1e8, 1e10, 5)
    ]
    law = chinchilla.fit(records, draws=50)
    assert law.value("E") < 0.05
    assert law.status is Status.WEAK
    assert "E" in law.reason


def test_too_few_points_are_refused_with_what_was_needed():
    records = planted_runs(np.random.default_rng(0), scales=2, horizons=4)
    with pytest.raises(FitError, match=r"3 sizes \(there are 2\)"):
        chinchilla.fit(records)


def test_a_missing_column_is_named():
    with pytest.raises(MissingColumnError, match="'tokens'"):
        chinchilla.fit([RunRecord(run_id="1", params=1e6, loss=3.0)])


def test_the_order_of_the_records_does_not_matter_and_the_seed_decides_the_draws():
    records = planted_runs(np.random.default_rng(2))
    one, other = chinchilla.fit(records, draws=50), chinchilla.fit(records[::-1], draws=50)
    assert one.parameters == other.parameters
    assert (one.draws["E"] == other.draws["E"]).all()
    assert (chinchilla.fit(records, draws=50, seed=1).draws["E"] != one.draws["E"]).any()


def test_what_is_left_out_is_said():
    records = planted_runs(np.random.default_rng(2))
    broken = RunRecord(run_id="broken", params=1e7, tokens=1e8, loss=float("nan"))
    burst = RunRecord(run_id="burst", params=1e7, tokens=1e8, loss=9.0, status="diverged")
    law = chinchilla.fit([*records, broken, burst], draws=20)
    assert {exclusion.run for exclusion in law.runs_excluded} == {"broken", "burst"}
    assert law.runs_used == len(records)


def test_points_inside_a_decaying_run_are_not_used():
    records = [
        RunRecord(
            run_id=record.run_id,
            params=record.params,
            tokens=part * record.tokens,
            loss=record.loss + late,
            schedule="cosine",
        )
        for record in planted_runs(np.random.default_rng(2))
        for part, late in ((0.5, 1.0), (1.0, 0.0))
    ]
    ends = [record for record in records if record.loss < 1.0 + max(r.loss for r in records)]
    law = chinchilla.fit(ends, draws=20)
    assert law.parameters == chinchilla.fit(planted_runs(np.random.default_rng(2)), draws=20).parameters
