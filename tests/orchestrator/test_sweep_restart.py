"""A restart of the driver is nothing special: the record is written first, and replayed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny
from fakes import FakePool, FakeTracker, completed, diverged, points_of
from rig import Rig, one_search

from orchestrator.curves import read_curve
from orchestrator.ledger import Ended, Started, read
from orchestrator.ports import Assignment, PoolEvent
from orchestrator.sweep import Ending
from orchestrator.trial import Trial, TrialState
from trainers.api import CurvePoint


class Killed(BaseException):
    """The driver died here."""


def outcome(folder: Path) -> dict[str, tuple[object, ...]]:
    """Of each trial all that must not depend on restarts."""
    return {
        trial.key: (
            trial.scale,
            trial.settings,
            trial.seed,
            trial.reason,
            trial.state,
            trial.loss,
            tuple((point.tokens, point.loss) for point in read_curve(folder, trial.key)),
        )
        for trial in read(folder).trials.values()
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert small(folder).run() is Ending.DONE
    return folder


def small(folder: Path) -> Rig:
    """Everything there is: four scales, the largest held out, replicates, and diverged trials."""

    def ending(assignment: Assignment) -> Sequence[PoolEvent]:
        return (diverged if assignment.spec.settings.learning_rate > 0.5 else completed)(assignment)

    return Rig(folder, plan=tiny.sweep(trials=2, replicates=2).plan(), pool=FakePool(ending=ending))


def test_a_restart_at_every_event_gives_the_same_sweep(undisturbed: Path, tmp_path: Path) -> None:
    lines = (undisturbed / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    expected = outcome(undisturbed)
    assert {state for _, _, _, _, state, *_ in expected.values()} == {TrialState.COMPLETED, TrialState.DIVERGED}
    for cut in range(len(lines)):
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        (folder / "ledger.jsonl").write_bytes(b"".join(lines[:cut]))
        before = read(folder)
        for trial in before.trials.values():  # curves are written before the end of a trial is
            write_curve_of(undisturbed, folder, trial)
        rig = small(folder)
        assert rig.run() is Ending.DONE
        assert outcome(folder) == expected
        ends = Counter(event.key for event in rig.of(Ended) if event.state.ended)
        assert ends == Counter(expected.keys())
        done = {trial.key for trial in before.trials.values() if trial.state.ended}
        assert done.isdisjoint(assignment.spec.key for assignment in rig.pool.submitted)
        assert {trial.key for trial in rig.proposer.restored} == set(before.trials)


def write_curve_of(source: Path, target: Path, trial: Trial) -> None:
    path = source / "trials" / trial.key / "curve.jsonl"
    if trial.state.ended:
        copy = target / "trials" / trial.key / "curve.jsonl"
        copy.parent.mkdir(parents=True)
        copy.write_bytes(path.read_bytes())


@pytest.mark.parametrize("slots", [1, 3])
def test_a_driver_killed_again_and_again_comes_to_the_same_end(undisturbed: Path, tmp_path: Path, slots: int) -> None:
    class Mortal(FakePool):
        """Kills its driver after a few waits, with attempts running."""

        def wait(self, timeout_s: float) -> Sequence[PoolEvent]:
            self.waits = getattr(self, "waits", 0) + 1
            if self.waits > 2 and self.running:
                raise Killed
            return super().wait(timeout_s)

    lives = 0
    while True:
        lives += 1
        rig = small(tmp_path)
        rig.pool = Mortal(slots=slots, ending=rig.pool.ending)
        try:
            assert rig.run() is Ending.DONE
            break
        except Killed:
            assert lives < 50
    assert lives > 3
    assert outcome(tmp_path) == outcome(undisturbed)
    starts = [(event.key, event.attempt) for event in rig.of(Started)]
    assert len(set(starts)) == len(starts)
    for key in outcome(tmp_path):
        attempts = [attempt for started, attempt in starts if started == key]
        assert attempts == list(range(1, len(attempts) + 1))


def test_the_record_is_written_before_a_worker_hears_of_it(tmp_path: Path) -> None:
    class Witness(FakePool):
        def submit(self, assignment: Assignment) -> str:
            last = json.loads((tmp_path / "ledger.jsonl").read_text().splitlines()[-1])
            assert (last["event"], last["key"], last["attempt"]) == (
                "started",
                assignment.spec.key,
                assignment.attempt,
            )
            return super().submit(assignment)

    rig = one_search(tmp_path, pool=Witness())
    assert rig.run() is Ending.DONE
    assert len(rig.pool.submitted) == 3


def test_points_are_on_disk_before_they_are_shown(tmp_path: Path) -> None:
    class Witness(FakeTracker):
        def points(self, key: str, points: Sequence[CurvePoint]) -> None:
            assert set(points) <= set(read_curve(tmp_path, key))
            super().points(key, points)

    rig = one_search(tmp_path, tracker=Witness())
    assert rig.run() is Ending.DONE
    for assignment in rig.pool.submitted:
        assert read_curve(tmp_path, assignment.spec.key) == points_of(assignment)
