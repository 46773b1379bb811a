import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.laws.records import RunRecord
from orchestrator.laws.selection import MAX_POINTS_PER_RUN, select
from orchestrator.tables.reader import TableOptions, read_table
from orchestrator.tables.thinning import kept_points, kept_records
from search_spaces.errors import InputError


def curve(run, points=100, **known):
    return [RunRecord(run_id=run, tokens=1e6 * (k + 1), loss=5 - 0.01 * k, **known) for k in range(points)]


def test_a_law_sees_the_same_points_of_thinned_runs():
    records = [*curve("a"), *curve("b", points=7), *curve("c", points=31)]
    thinned = kept_records(records)
    assert len(thinned) < len(records)
    assert select(thinned, ("tokens", "loss"), law="test").used == select(records, ("tokens", "loss"), law="test").used


def test_points_that_know_more_are_a_curve_of_their_own():
    records = [*curve("a"), RunRecord(run_id="a", tokens=5.5e6, loss=4.9, error=0.4)]
    assert records[-1] in kept_records(records)


def test_points_without_a_loss_crowd_out_no_others():
    broken = [RunRecord(run_id="a", tokens=1e3 * (k + 1), loss=float("nan")) for k in range(500)]
    usable = [record for record in kept_records([*broken, *curve("a")]) if record.loss > 0]
    assert usable == kept_records(curve("a"))


def test_points_without_a_place_and_of_no_curve_are_kept():
    nowhere = [RunRecord(run_id="a", loss=3.0, error=0.1 * k) for k in range(50)]
    assert kept_records(nowhere) == nowhere
    assert len(kept_points(np.full(50, -1), np.arange(50.0), np.ones(50))) == 50


def test_points_at_one_place_are_left_to_the_reader():
    records = [*curve("a"), RunRecord(run_id="a", tokens=7e6, loss=1.0)]
    assert sum(record.tokens == 7e6 for record in kept_records(records)) == 2


@given(
    runs=st.lists(st.integers(0, 3), min_size=1, max_size=200),
    losses=st.lists(st.sampled_from([1.0, 2.0, float("nan"), float("inf"), -1.0]), min_size=200, max_size=200),
)
def test_every_run_keeps_its_ends_and_at_most_so_many_points(runs, losses):
    curves, loss = np.array(runs), np.array(losses[: len(runs)])
    place = np.arange(1.0, len(runs) + 1)
    kept = kept_points(curves, place, loss)
    usable = np.isfinite(loss) & (loss > 0)
    for run in set(runs):
        mine = np.flatnonzero((curves == run) & usable)
        chosen = np.intersect1d(kept, mine)
        assert len(chosen) <= MAX_POINTS_PER_RUN
        if mine.size:
            assert {mine[0], mine[-1]} <= set(chosen.tolist())


@pytest.fixture
def long_table(tmp_path):
    path = tmp_path / "runs.csv"
    rows = [f"{run},1e6,{1e6 * (k + 1)},{5 - 0.01 * k}" for run in "ab" for k in range(100)]
    path.write_text("\n".join(["run_id,params,tokens,loss", *rows, "a,1e6,1e6,5.0"]) + "\n")
    return path


def test_a_table_says_how_many_rows_it_uses_and_which_repeat(long_table):
    table = read_table(long_table, TableOptions())
    assert len(table.records) <= 2 * MAX_POINTS_PER_RUN
    assert "20 points of a run's curve are used" in table.notes[0]
    assert any("row 201 repeats row 1" in note for note in table.notes)


def test_a_wrong_number_is_found_in_rows_that_are_not_used(long_table):
    lines = long_table.read_text().splitlines()
    lines[51] = "a,1e6,5.1e7,oops"
    long_table.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"row 51, column 'loss' is 'oops'"):
        read_table(long_table, TableOptions())
