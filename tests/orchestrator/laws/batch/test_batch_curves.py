from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.batch_curves import MOST_POINTS, batch_curves
from orchestrator.laws.records import RunRecord


def run(name, *, factor=1.0, steps=(100, 200, 400, 800), params=1e6, batch=1e4, **known):
    return [
        RunRecord(
            run_id=name, params=params, tokens=step * batch, batch_tokens=batch, loss=factor * 20 * step**-0.2, **known
        )
        for step in steps
    ]


def test_settings_give_their_lower_envelope():
    records = run("good", learning_rate=1e-3) + run("poor", factor=1.1, learning_rate=3e-3)
    found = batch_curves(records, law="x")
    assert found.loss == pytest.approx([20 * step**-0.2 for step in found.steps])
    assert found.steps == pytest.approx([100, 200, 400, 800])
    assert (found.curves, found.runs) == (1, 2)


def test_seeds_of_one_setting_are_averaged_not_chosen_from():
    records = run("a", learning_rate=1e-3, seed=0) + run("b", factor=1.21, learning_rate=1e-3, seed=1)
    assert batch_curves(records, law="x").loss == pytest.approx(
        [1.1 * 20 * step**-0.2 for step in (100, 200, 400, 800)]
    )


def test_a_worse_run_does_not_go_on_where_the_better_one_ends():
    records = run("good", steps=(100, 200)) + run("poor", factor=1.5, steps=(100, 200, 400, 800, 1600))
    assert batch_curves(records, law="x").steps == pytest.approx([100, 200, 1600])  # there it is better at last


def test_points_of_the_warmup_are_left_out():
    assert batch_curves(run("a", warmup_tokens=1.5e6), law="x").steps.min() == pytest.approx(400)
    assert batch_curves(run("a", steps=(1, 100, 200)), law="x").steps.min() == pytest.approx(100)
    short = run("short", params=2e6, warmup_tokens=1e9)
    found = batch_curves(run("a") + short, law="x")
    assert [(one.run, one.reason) for one in found.excluded] == [("short", "it ends within two warmups")]


def test_inside_a_run_whose_learning_rate_decays_no_point_counts():
    assert batch_curves(run("a", schedule="cosine"), law="x").steps == pytest.approx([800])


def test_sizes_are_counted_without_embeddings_where_all_runs_say_so():
    known = run("a", non_embedding_params=6e5)
    assert batch_curves(known, law="x").count == "non_embedding_params"
    assert batch_curves(known, law="x").params == pytest.approx(6e5)
    mixed = batch_curves(known + run("b", params=2e6), law="x")
    assert mixed.count == "params"
    assert set(mixed.params) == {1e6, 2e6}


def test_a_column_of_steps_stands_before_the_division():
    records = [replace(record, steps=7 * at + 7) for at, record in enumerate(run("a"))]
    assert batch_curves(records, law="x").steps == pytest.approx([7, 14, 21, 28])


def test_many_curves_have_fewer_points_each():
    steps = np.geomspace(100, 2000, 20)
    records = [r for at in range(500) for r in run(f"{at}", steps=steps, batch=1e3 * 1.05**at)]
    found = batch_curves(records, law="x")
    assert found.curves == 500
    assert len(found.loss) <= MOST_POINTS
