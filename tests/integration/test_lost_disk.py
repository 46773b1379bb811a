"""The driver dies and its disk with it: a new one goes on from `storage:` as if nothing was."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import tiny
import yaml
from driven import COMMAND, Case, driving, make_case, run_to_the_end
from what_holds import curves, faults_of_mlflow, faults_of_record, history_of, laws_of

from orchestrator.ledger import Closed, read
from orchestrator.storage.place import run_folder
from search_spaces.errors import RunFolderError

pytestmark = pytest.mark.slow

LIVES = 3
IN_PROCESS = {"address": "in-process", "workers": 1}
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    """A sweep of language models without storage, which nobody disturbed."""
    case = make_case(tmp_path_factory.mktemp("disks") / "sweep", sampler="random", trials=2, cluster=IN_PROCESS)
    run_to_the_end(case, case.root / "undisturbed")
    return case, case.root / "undisturbed"


@pytest.fixture
def sleeping(tmp_path, monkeypatch) -> Case:
    """Four trials that sleep, with storage: no torch."""
    monkeypatch.setenv("SCALESWEEP_SCRATCH", str(tmp_path / "scratch"))
    content = tiny.content(
        scales=2,
        trials=2,
        replicates=1,
        trainer={"name": "synthetic", "seconds_per_trial": 4.0},
        cluster=IN_PROCESS,
        storage=str(tmp_path / "shared"),
    )
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    return Case(root=tmp_path, file=tmp_path / "sweep.yaml")


@pytest.fixture
def stored(undisturbed, tmp_path, monkeypatch) -> Case:
    """The same sweep with storage, on the same corpus."""
    monkeypatch.setenv("SCALESWEEP_SCRATCH", str(tmp_path / "scratch"))
    return make_case(
        tmp_path,
        sampler="random",
        trials=2,
        cluster=IN_PROCESS,
        corpus=undisturbed[0].root / "corpus",
        storage=str(tmp_path / "shared"),
    )


def events_in(storage: Path) -> int:
    """How many events storage has."""
    try:
        with run_folder(str(storage)) as folder:
            return len(read(folder).events)
    except RunFolderError:
        return 0


def test_killed_again_and_again_on_an_empty_disk_it_comes_to_the_same_end(undisturbed, stored, tmp_path):
    chance = random.Random(5)
    for life in range(LIVES):
        folder = tmp_path / f"disk-{life}"
        before = events_in(tmp_path / "shared")
        with driving(stored, folder) as driver:
            driver.until(lambda before=before: events_in(tmp_path / "shared") > before + 2, "copy of new events")
            time.sleep(chance.uniform(0.0, 2.0))
            assert driver.process.poll() is None, driver.said()
            driver.kill()
        shutil.rmtree(folder)
    folder = tmp_path / "last"
    run_to_the_end(stored, folder)
    said = (tmp_path / "last.log").read_text()
    assert "events were restored from storage" in said

    assert curves(folder) == curves(undisturbed[1])
    assert laws_of(folder) == laws_of(undisturbed[1])
    assert faults_of_record(stored, folder) == []
    assert faults_of_mlflow(folder) == []
    assert not any((tmp_path / "scratch").rglob("checkpoint*"))
    # Again, on an empty disk: nothing is trained any more.
    run_to_the_end(stored, tmp_path / "after")
    assert history_of(tmp_path / "after").events == history_of(folder).events


def test_it_is_asked_and_looked_at_from_another_host(sleeping, tmp_path):
    storage = str(tmp_path / "shared")

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(COMMAND), *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    assert ask("status", storage).returncode == 2
    with driving(sleeping, tmp_path / "first") as driver:
        driver.until(lambda: events_in(tmp_path / "shared") > 3, "copy of new events")
        assert "s1" in ask("status", storage).stdout
        assert ask("pause", storage).returncode == 0
        assert driver.exit_code() == 130, driver.said()
    shutil.rmtree(tmp_path / "first")
    with driving(sleeping, tmp_path / "second") as driver:
        driver.until(lambda: "runs and curves" in driver.said(), "start")
        assert "events were restored from storage" in driver.said()
        assert ask("stop", storage).returncode == 0
        assert driver.exit_code() in {0, 1}, driver.said()
    assert history_of(tmp_path / "second").of(Closed)[-1].how == "stopped"


def test_a_second_driver_on_another_disk_leaves_the_first_alone_and_goes_on_when_that_is_dead(sleeping, tmp_path):
    with driving(sleeping, tmp_path / "old") as old:
        old.until(lambda: events_in(tmp_path / "shared") > 3, "copy of new events")
        with driving(sleeping, tmp_path / "new") as new:
            assert new.exit_code() == 2, new.said()
            assert "another driver is at work on storage" in new.said()
        assert not (tmp_path / "new").exists()
        old.kill()
    with driving(sleeping, tmp_path / "new") as new:
        assert new.exit_code() == 0, new.said()
        assert "events were restored from storage" in new.said()
    assert faults_of_record(sleeping, tmp_path / "new") == []
    with driving(sleeping, tmp_path / "old") as again:
        # What it recorded before it died and the other one does not know decides; it never goes on beside it.
        words = {0: "events were restored from storage", 2: "hold different records"}
        assert words[again.exit_code()] in again.said()
