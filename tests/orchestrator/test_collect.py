"""Trials and curves as the records that laws take."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from orchestrator.collect import collect, collect_curves, context_of, curves_of, records_of
from orchestrator.curves import write_points
from orchestrator.runfolder import RunFolder
from orchestrator.trial import Reason, Trial, TrialState
from search_spaces.space import HyperParameters
from trainers.api import CurvePoint, TrialResult
from trainers.session import DIVERGED_RISE

PLAN = tiny.sweep().plan()
SEARCH = PLAN.searches[0]
SHORT, LONG = (cell.tokens for cell in SEARCH.serves)
SETTINGS = HyperParameters(learning_rate=0.1, batch_size=4, beta2=0.98)


def trial(key: str, state: TrialState, *, tokens: int = LONG) -> Trial:
    result = TrialResult(final_loss=3.0, diverged=state is TrialState.DIVERGED, tokens=tokens, seconds=1.0)
    return Trial(
        key=key,
        number=0,
        scale="s1",
        tokens=LONG,
        settings=SETTINGS,
        seed=3,
        reason=Reason.MODEL,
        proposed_at=0.0,
        state=state,
        attempt=1,
        result=result if state.measured else None,
    )


def curve(folder: Path, key: str, losses: dict[int, float]) -> None:
    points = [CurvePoint(tokens=tokens, loss=loss, time=1.0) for tokens, loss in losses.items()]
    write_points(folder, key, 1, points)


def test_a_trial_is_a_record_of_each_cell_that_it_serves(tmp_path: Path) -> None:
    curve(tmp_path, "a", {SHORT // 2: 5.0, SHORT: 4.0, LONG: 3.0})
    records = records_of(PLAN, [trial("a", TrialState.COMPLETED)], tmp_path)
    assert [(record.tokens, record.loss) for record in records] == [(SHORT, 4.0), (LONG, 3.0)]
    assert {record.run_id for record in records} == {"a"}
    (first, _) = records
    scale = SEARCH.cell.scale
    assert (first.params, first.non_embedding_params) == (scale.params, scale.non_embedding_params)
    assert first.flops == 6 * scale.params * SHORT
    assert (first.learning_rate, first.beta2, first.seed) == (0.1, 0.98, 3)
    assert first.batch_tokens == 4 * scale.sequence_length
    assert first.steps * first.batch_tokens == first.tokens
    assert (first.status, first.schedule) == ("completed", "constant")


def test_trials_that_have_not_ended_are_no_records(tmp_path: Path) -> None:
    open_trials = [trial("a", TrialState.WAITING), trial("b", TrialState.RUNNING)]
    curve(tmp_path, "b", {SHORT: 4.0})
    assert records_of(PLAN, open_trials, tmp_path) == []


@pytest.mark.parametrize(("state", "said"), [(TrialState.DIVERGED, "diverged"), (TrialState.FAILED, "failed")])
def test_what_was_measured_before_the_end_counts(tmp_path: Path, state: TrialState, said: str) -> None:
    curve(tmp_path, "a", {SHORT // 2: 5.0, SHORT: 4.0})
    short, long = records_of(PLAN, [trial("a", state, tokens=SHORT)], tmp_path)
    assert (short.status, short.loss) == ("completed", 4.0)
    assert (long.status, long.loss) == (said, None)


def test_the_point_at_which_a_trial_diverged_is_no_measurement(tmp_path: Path) -> None:
    curve(tmp_path, "a", {SHORT // 2: 3.5, SHORT: 3.0, LONG: 3.5 + DIVERGED_RISE + 0.1})
    short, long = records_of(PLAN, [trial("a", TrialState.DIVERGED)], tmp_path)
    assert (short.status, short.loss) == ("completed", 3.0)
    assert (long.status, long.loss) == ("diverged", None)


def test_the_context_says_what_the_laws_hold_for(tmp_path: Path) -> None:
    context = context_of(PLAN, [], {"name": "lm", "corpus": ["a.txt", "b.txt"], "tokenizer": {"bpe": 4096}})
    assert (context.vocab_size, context.sequence_length, context.schedule) == (32, 16, "constant")
    assert (context.corpus, context.tokenizer) == ("a.txt, b.txt", "bpe 4096")
    assert [shape.params for shape in context.ladder] == [scale.params for scale in PLAN.scales]
    low, high = context.tokens_per_param
    assert (low, high) == (pytest.approx(5, rel=0.1), pytest.approx(20, rel=0.1))
    assert context.noise_sd is None


def test_the_noise_is_that_of_the_replicates(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.keep(tiny.sweep())
    trials = []
    losses = (4.0, 4.01, 3.99, 4.02)
    for number, loss in enumerate(losses):
        trials.append(replace(trial(f"t{number}", TrialState.COMPLETED), seed=number, number=number))
        curve(tmp_path, f"t{number}", {SHORT: loss + 1, LONG: loss})
    records, context = collect(folder, trials)
    assert len(records) == 8
    variances = [statistics.variance(map(math.log, cell)) for cell in (losses, [loss + 1 for loss in losses])]
    assert context.noise_sd == pytest.approx(statistics.mean(variances) ** 0.5, rel=1e-3)  # relative to the loss


def test_a_whole_curve_has_every_point_with_its_part_of_steps_and_flops(tmp_path: Path) -> None:
    curve(tmp_path, "a", {SHORT // 2: 5.0, SHORT: 4.0, LONG: 3.0})
    points = curves_of(PLAN, [trial("a", TrialState.COMPLETED)], tmp_path, {"name": "lm"})
    assert [(point.tokens, point.loss) for point in points] == [(SHORT // 2, 5.0), (SHORT, 4.0), (LONG, 3.0)]
    assert all(point.flops == 6 * point.params * point.tokens for point in points)
    assert all(point.steps * point.batch_tokens == point.tokens for point in points)
    assert {point.warmup_tokens for point in points} == {min(SEARCH.cell.scale.params, SHORT // 4)}
    ends = records_of(PLAN, [trial("a", TrialState.COMPLETED)], tmp_path)
    assert [replace(point, warmup_tokens=None) for point in points[1:]] == ends


@pytest.mark.parametrize(
    ("trainer", "expected"), [({"name": "lm", "warmup_tokens": 128}, 128.0), ({"name": "synthetic"}, None)]
)
def test_the_warmup_is_what_is_known_of_it(tmp_path: Path, trainer: dict, expected: float | None) -> None:
    curve(tmp_path, "a", {LONG: 3.0})
    (point,) = curves_of(PLAN, [trial("a", TrialState.COMPLETED)], tmp_path, trainer)
    assert point.warmup_tokens == expected


def test_a_diverged_curve_ends_before_it_diverged_and_a_curve_without_points_is_one_record(tmp_path: Path) -> None:
    curve(tmp_path, "a", {SHORT // 2: 3.5, SHORT: 3.0, LONG: 3.5 + DIVERGED_RISE + 0.1})
    trials = [trial("a", TrialState.DIVERGED), trial("b", TrialState.FAILED), trial("c", TrialState.RUNNING)]
    points = curves_of(PLAN, trials, tmp_path, {})
    assert [(point.run_id, point.tokens, point.status) for point in points] == [
        ("a", SHORT // 2, "completed"),
        ("a", SHORT, "completed"),
        ("b", LONG, "failed"),
    ]


def test_long_curves_keep_twenty_points(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.keep(tiny.sweep())
    curve(tmp_path, "a", {LONG * (number + 1) // 64: 5.0 - number / 64 for number in range(64)})
    points = collect_curves(folder, [trial("a", TrialState.COMPLETED)])
    assert 15 <= len(points) <= 20
    assert points[-1].tokens == LONG
