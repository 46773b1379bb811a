"""A trial that is killed or paused at any step goes on to the same curve, to the last bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from search_spaces.scale import Architecture
from trainers.api import CurvePoint, TrialPaused
from trainers.lm.trainer import LMTrainer

# Of the machine, not of the trial.
_OF_THE_CLOCK = {"time", "tokens_per_second", "attempt"}


def measured(points: list[dict]) -> list[dict]:
    return [{key: value for key, value in point.items() if key not in _OF_THE_CLOCK} for point in points]


def run_in_processes(job: dict, workspace: Path, *, kill_at: list[int]) -> list[int]:
    """How each attempt's process ended."""
    workspace.mkdir()
    (workspace / "job.json").write_text(json.dumps(job))
    script = Path(__file__).with_name("train_one.py")
    shown = subprocess.run(
        [sys.executable, script, workspace / "job.json", workspace, *map(str, kill_at)],
        env={"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(line) for line in shown.stdout.split()]


def curve(workspace: Path) -> list[dict]:
    """The last word on each token count, as a reader of several attempts takes it."""
    lines = (workspace / "points.jsonl").read_text().splitlines()
    last = {point["tokens"]: point for point in map(json.loads, lines)}
    return measured([last[tokens] for tokens in sorted(last)])


@pytest.mark.slow
def test_killed_at_several_steps_the_curve_is_the_same_to_the_last_bit(options, spec, session_in, tmp_path) -> None:
    undisturbed = session_in(tmp_path / "undisturbed")
    LMTrainer(options).train(spec, undisturbed)
    workspace = tmp_path / "killed"
    ended = run_in_processes(
        {"options": {**options, "checkpoint_seconds": 0.0}, "spec": spec.as_json()},
        workspace,
        kill_at=[7, 10, 1, 0],  # between points, soon after one, at once
    )
    assert ended == [-signal.SIGKILL] * 3 + [0]
    assert [int(line) for line in (workspace / "resumed.jsonl").read_text().split()] == [0, 7 * 128, 17 * 128, 18 * 128]
    assert curve(workspace) == measured([asdict(point) for point in undisturbed.points])


def pause_every_step(trainer: LMTrainer, spec, make_session, workspace: Path) -> list[CurvePoint]:
    """Leave after each step, in this process, until the trial is done."""
    last: dict[int, CurvePoint] = {}
    for attempt in range(1, spec.steps + 2):
        session = make_session(workspace, attempt, stop=True)
        try:
            trainer.train(spec, session)
        except TrialPaused:
            continue
        finally:
            last.update({point.tokens: point for point in session.points})
        break
    return [last[tokens] for tokens in sorted(last)]


@pytest.mark.parametrize(
    "case",
    [
        ({"architecture": Architecture.LLAMA}, {}),
        ({"architecture": Architecture.GPT2, "tied": True}, {"schedule": "wsd", "z_loss": 1e-4}),
        ({"architecture": Architecture.QWEN3}, {"schedule": "cosine", "micro_batch": 3}),
    ],
)
def test_paused_after_every_step(options, spec, session_in, tmp_path, case) -> None:
    shape, more = case
    spec = replace(spec, scale=replace(spec.scale, **shape), tokens=8 * 128)
    spec = replace(spec, eval_tokens=(3 * 128, 8 * 128), served_tokens=())
    trainer = LMTrainer({**options, **more, "checkpoint_seconds": 0.0})
    undisturbed = session_in(tmp_path / "undisturbed")
    trainer.train(spec, undisturbed)
    paused = pause_every_step(trainer, spec, session_in, tmp_path / "paused")
    assert measured(list(map(asdict, paused))) == measured(list(map(asdict, undisturbed.points)))


def test_a_finished_trial_is_not_trained_again(options, spec, session_in, tmp_path) -> None:
    """Its points, times included, are said once more for a driver that did not hear them."""
    trainer = LMTrainer(options)
    first, second = session_in(tmp_path, 1), session_in(tmp_path, 2)
    trainer.train(spec, first)
    trainer.train(spec, second)
    assert second.resumed == [spec.tokens]
    assert second.points == first.points


def test_a_damaged_checkpoint_costs_time_and_nothing_else(options, spec, session_in, tmp_path) -> None:
    trainer = LMTrainer(options)
    first, second = session_in(tmp_path, 1), session_in(tmp_path, 2)
    trainer.train(spec, first)
    for path in tmp_path.glob("checkpoint-*.bin"):
        path.write_bytes(path.read_bytes()[:-1])
    trainer.train(spec, second)
    assert second.resumed == [0]
    assert measured(list(map(asdict, second.points))) == measured(list(map(asdict, first.points)))
