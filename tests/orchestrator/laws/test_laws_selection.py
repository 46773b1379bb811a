from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.records import RunRecord
from orchestrator.laws.selection import MAX_POINTS_PER_RUN, group_cells, raw_envelope, select, share_runs
from orchestrator.laws.tuned import untuned_envelope
from search_spaces.errors import MissingColumnError

COLUMNS = ("params", "tokens", "loss", "learning_rate")


def run(name="r", tokens=1e8, loss=3.0, **others):
    return RunRecord(run_id=name, params=1e6, tokens=tokens, loss=loss, **{"learning_rate": 1e-3} | others)


def reasons(records):
    return {each.run: each.reason for each in select(records, COLUMNS, law="x").excluded}


@pytest.mark.parametrize(
    ("record", "word"),
    [
        (run(status="failed"), "failed"),
        (run(loss=float("nan")), "loss is nan"),
        (run(loss=float("inf")), "loss is inf"),
        (run(loss=None), "no loss"),
        (run(tokens=-1.0), "tokens is -1"),
        (run(status="diverged", loss=None), "bounds the learning rate"),
    ],
)
def test_what_cannot_be_used_is_left_out_with_its_reason(record, word):
    assert word in reasons([record, run("good")])["r"]


def test_a_beta2_of_one_is_left_out():
    found = select([run(beta2=1.0), run("good", beta2=0.9)], (*COLUMNS, "beta2"), law="x")
    assert [each.reason for each in found.excluded] == ["beta2 is 1, not below 1"]


def test_a_missing_column_is_named_with_what_to_do():
    with pytest.raises(
        MissingColumnError, match=r"'x' needs the column 'learning_rate'.*--column learning_rate=THEIRS"
    ):
        select([run(learning_rate=None)], COLUMNS, law="x")


def test_at_most_twenty_log_spaced_points_of_a_run_are_used_and_the_last_is():
    curve = [run(tokens=1e5 * step) for step in range(1, 1001)]
    kept = np.array([point.tokens for point in select(curve, COLUMNS, law="x").used])
    assert kept.size <= MAX_POINTS_PER_RUN
    assert kept[-1] == 1e8
    assert np.diff(np.log(kept))[4:].max() < 2.5 * np.diff(np.log(kept))[4:].min()


def test_order_of_records_does_not_matter():
    records = [run(f"r{number}", tokens=1e8 * (1 + number % 3)) for number in range(9)]
    assert select(records, COLUMNS, law="x") == select(records[::-1], COLUMNS, law="x")


def test_a_constant_schedule_serves_shorter_cells_and_a_cosine_does_not():
    curve = [run(tokens=tokens, schedule="constant") for tokens in (2.5e7, 5e7, 1e8)]
    cells = group_cells(select(curve, COLUMNS, law="x"))
    assert [cell.tokens for cell in cells] == [2.5e7, 5e7, 1e8]
    assert share_runs(cells)
    cosine = [replace(point, schedule="cosine") for point in curve]
    assert [cell.tokens for cell in group_cells(select(cosine, COLUMNS, law="x"))] == [1e8]


def test_readings_during_the_warmup_are_no_cells():
    curve = [run(tokens=tokens, schedule="constant", warmup_tokens=2e7) for tokens in (2e7, 4.1e7, 1e8)]
    assert [cell.tokens for cell in group_cells(select(curve, COLUMNS, law="x"))] == [4.1e7, 1e8]


def test_a_run_that_was_logged_elsewhere_is_read_between_its_points():
    regular = [run("a", tokens=tokens, schedule="constant") for tokens in (2.5e7, 5e7, 1e8)]
    odd = [run("b", tokens=3.6e7, loss=4.0, schedule="constant"), run("b", tokens=1e8, loss=2.0, schedule="constant")]
    cell = next(c for c in group_cells(select(regular + odd, COLUMNS, law="x")) if c.tokens == 5e7)
    read = next(point for point in cell.runs if point.run_id == "b")
    slope = np.log(2.0 / 4.0) / np.log(1e8 / 3.6e7)
    assert read.loss == pytest.approx(4.0 * (5e7 / 3.6e7) ** slope)


def test_counts_that_differ_by_rounding_are_one_cell():
    cells = group_cells(select([run("a"), run("b", tokens=1.003e8), run("c", tokens=1.2e8)], COLUMNS, law="x"))
    assert [len(cell.runs) for cell in cells] == [2, 1]


def test_a_diverged_run_bounds_its_scale_and_is_no_loss():
    records = [run("a"), run("b", status="diverged", loss=9.0, learning_rate=0.1)]
    (cell,) = group_cells(select(records, COLUMNS, law="x"))
    assert [point.run_id for point in cell.runs] == ["a"]
    assert [point.run_id for point in cell.diverged] == ["b"]
    assert raw_envelope([cell])[0].loss == 3.0


def test_without_optima_the_envelope_is_the_lowest_loss_of_each_cell():
    records = [run("a", loss=3.0), run("b", loss=2.9, learning_rate=2e-3), run("c", tokens=2e8, loss=2.8)]
    assert [(point.run_id, point.loss) for point in untuned_envelope(records).records] == [("b", 2.9), ("c", 2.8)]


def test_a_table_without_settings_is_its_own_envelope():
    records = [run("a", learning_rate=None), run("b", learning_rate=None, loss=2.5)]
    assert untuned_envelope(records).records == records
