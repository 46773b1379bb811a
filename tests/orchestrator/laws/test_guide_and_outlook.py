"""What measured cells say about others: beliefs that hold the truth as often as they claim, and what a run is worth."""

import math
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.cell_search import before_runs, most_telling, posterior, wide_belief
from orchestrator.laws.coordinates import SETTINGS
from orchestrator.laws.guide import fit_guide
from orchestrator.laws.outlook import outlook

LOW, HIGH = np.array([math.log(1e-5), math.log(1e3), 0.0]), np.array([math.log(1.0), math.log(1e6), 8.0])


def cells(sweep, truth, seed, *, scales=4, trials=16, **changes):
    """Planted runs of a ladder, one horizon each."""
    planted = truth(noise=0.002, **changes)
    return planted, sweep(seed, planted, scales=scales, trials=trials, ratios=(20.0,), shared=False)


def test_a_belief_about_the_next_scale_holds_its_optimum_as_often_as_it_says(sweep, truth):
    held, widths = [], []
    for seed in range(30):
        planted, records = cells(sweep, truth, seed)
        guide = fit_guide(records, SETTINGS)
        params = 3e5 * 2.0**5
        belief = guide.belief(params, 20 * params)
        away = belief.mean - planted.optimum(params, 20 * params)
        # The planted optimum has no deviation of its own: squared distance in units of the belief is at most chi2.
        held.append(away @ np.linalg.solve(belief.covariance, away) < 7.81)
        widths.append(np.sqrt(np.diag(belief.covariance)))
    assert np.mean(held) >= 0.9
    assert (np.mean(widths, axis=0) < (0.4, 0.4, 0.8)).all()


def test_more_runs_and_cells_narrow_the_belief(sweep, truth):
    size = (1e7, 2e8)
    spreads = []
    for scales, trials in ((1, 16), (3, 16), (5, 16)):
        _, records = cells(sweep, truth, 0, scales=scales, trials=trials)
        spreads.append(np.trace(fit_guide(records, SETTINGS).belief(*size).covariance))
    assert spreads[0] > 2 * spreads[1] > 2 * spreads[2]


def test_too_few_runs_say_nothing(sweep, truth):
    _, records = cells(sweep, truth, 0, scales=2, trials=4)
    assert fit_guide(records, SETTINGS) is None
    assert fit_guide([], SETTINGS) is None
    assert fit_guide([replace(run, beta2=None) for run in records], SETTINGS) is None
    assert fit_guide([replace(run, status="diverged") for run in records], SETTINGS) is None


def test_own_runs_move_the_centre_from_a_wrong_belief_to_the_truth(sweep, truth):
    planted, records = cells(sweep, truth, 0, scales=5)
    guide = fit_guide([run for run in records if run.params < 4e6], SETTINGS)
    mine = [run for run in records if run.params > 4e6]
    params, tokens = mine[0].params, mine[0].tokens
    places = np.log([[run.learning_rate, run.batch_tokens, -math.log(2) / math.log(run.beta2)] for run in mine])
    losses = np.array([run.loss for run in mine])
    belief = guide.belief(params, tokens)
    wrong = replace(belief, mean=belief.mean + np.array([1.5, 0.0, 0.0]))
    lawless = posterior(guide, wide_belief(wrong, LOW, HIGH), places, losses)
    assert lawless.log_evidence > posterior(guide, wrong, places, losses).log_evidence + 5
    away = lawless.centre - planted.optimum(params, tokens)
    assert 0.5 * away @ guide.curvature @ away < 0.003


def test_the_most_telling_run_lowers_the_regret_by_what_was_said(sweep, truth):
    _, records = cells(sweep, truth, 0)
    guide = fit_guide(records, SETTINGS)
    known = before_runs(guide, guide.belief(1e7, 2e8))
    first = known.best_within(LOW, HIGH)[None]
    place, gain = most_telling(known, first, LOW, HIGH)
    before = known.regret(known.with_runs(first))
    after = known.regret(known.with_runs(np.vstack([first, place])))
    assert gain == pytest.approx(before - after, rel=1e-6)
    assert gain > 0
    elsewhere = place + np.array([3.0, 0.0, 0.0])
    assert known.regret(known.with_runs(np.vstack([first, elsewhere]))) > after


def test_the_best_of_a_box_is_on_its_edge_and_the_lowest_there(sweep, truth):
    _, records = cells(sweep, truth, 0)
    guide = fit_guide(records, SETTINGS)
    known = before_runs(guide, guide.belief(1e7, 2e8))
    high = known.centre + np.array([-0.7, 2.0, 2.0])
    low = high - 3.0
    best = known.best_within(low, high)
    assert best[0] == pytest.approx(high[0])
    others = np.random.default_rng(0).uniform(low, high, size=(4000, 3))
    assert known.excess(best[None])[0] <= known.excess(others).min() + 1e-9
    wide = known.best_within(known.centre - 1, known.centre + 1)
    assert wide == pytest.approx(known.centre, abs=2e-3)


def test_an_outlook_narrows_as_cells_are_measured_and_prefers_the_cheap_that_tell(sweep, truth):
    planned = [[(3e5 * 2.0**scale, 20 * 3e5 * 2.0**scale)] for scale in range(5)]
    found = []
    for scales in (1, 2, 4):
        _, records = cells(sweep, truth, 0, scales=scales)
        found.append(outlook(records, SETTINGS, planned=planned, bounds=(LOW, HIGH), target=(1e8, 2e9)))
    assert found[0].expected_regret > found[1].expected_regret > found[2].expected_regret
    assert found[0].loss_stderr > found[2].loss_stderr
    assert not found[0].worth[-1].settled
    assert all(0 <= worth.regret < 1 and 0 <= worth.loss < 1 for each in found for worth in each.worth)
    unmeasured, measured = found[2].worth[4], found[2].worth[0]
    assert unmeasured.total > measured.total


def test_a_run_is_worth_what_it_then_turns_out_to_tell(sweep, truth):
    """The expected fall of the target's regret against the fall after such runs were made."""
    planned = [[(3e5 * 2.0**scale, 20 * 3e5 * 2.0**scale)] for scale in range(4)]
    _, records = cells(sweep, truth, 0, scales=4, trials=16)
    known = [run for run in records if run.params < 2e6]
    kwargs = {"planned": planned, "bounds": (LOW, HIGH), "target": (1e8, 2e9)}
    before, after = (outlook(rows, SETTINGS, **kwargs) for rows in (known, records))
    fall = 1 - after.expected_regret / before.expected_regret
    expected = 5 * before.worth[3].regret  # the first five runs of the cell tell together, the other eleven little
    assert 0.4 * fall < expected < 2.5 * fall


def test_shorter_cells_of_the_same_runs_tell_of_a_target_off_the_line(sweep, truth):
    """Cells on one line of tokens per param do not tell params from tokens; the runs' shorter cells do."""
    _, records = cells(sweep, truth, 0, scales=4)
    line = [[(3e5 * 2.0**scale, 20 * 3e5 * 2.0**scale)] for scale in range(4)]
    with_shorter = [[(params, tokens / 4), (params, tokens)] for ((params, tokens),) in line]
    kwargs = {"bounds": (LOW, HIGH), "target": (3e6, 3e9)}
    alone, more = (outlook(records, SETTINGS, planned=planned, **kwargs) for planned in (line, with_shorter))
    assert more.loss_stderr < 0.8 * alone.loss_stderr
    assert more.expected_regret == pytest.approx(alone.expected_regret)


def test_no_outlook_before_a_cell_is_known(sweep, truth):
    _, records = cells(sweep, truth, 0, scales=1, trials=4)
    assert outlook(records, SETTINGS, planned=[[(3e5, 6e6)]], bounds=(LOW, HIGH), target=(1e8, 2e9)) is None
