"""Whose a run folder is, and what people ask of its driver."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import tiny

from orchestrator.ledger import Closed, History, Ledger, Opened, read
from orchestrator.runfolder import RunFolder, check_history, software_version
from search_spaces.errors import RunFolderError


def test_a_folder_keeps_its_sweep(tmp_path: Path) -> None:
    folder, sweep = RunFolder(tmp_path), tiny.sweep()
    folder.keep(sweep)
    assert folder.sweep().resolved() == sweep.resolved()
    assert folder.sweep().plan().fingerprint() == sweep.plan().fingerprint()
    folder.check(sweep)


def test_an_empty_folder_is_anybodys_and_no_run_folder(tmp_path: Path) -> None:
    RunFolder(tmp_path).check(tiny.sweep())
    with pytest.raises(RunFolderError, match=r"is not a run folder: it has no sweep\.yaml"):
        RunFolder(tmp_path).sweep()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"trials": 4}, "trials"),
        ({"name": "other"}, "name"),
        ({"seed": 1}, "seed"),
        ({"ladder": tiny.ladder(3)}, "ladder"),
        ({"trainer": {"name": "synthetic", "noise_sd": 0.1}}, "trainer"),
        ({"trials": 4, "sampler": "tpe"}, "trials, sampler"),
    ],
)
def test_another_sweep_is_refused_with_what_differs(tmp_path: Path, changes, named: str) -> None:
    folder = RunFolder(tmp_path)
    folder.keep(tiny.sweep())
    with pytest.raises(RunFolderError, match=f"holds a sweep with another {named}; choose another folder with --dir"):
        folder.check(tiny.sweep(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster": {"address": "auto"}},
        {"resources": {"default": {"cpus": 2}}},
        {"tracking": {"uri": "http://127.0.0.1:5000"}},
    ],
)
def test_where_it_runs_may_change(tmp_path: Path, changes) -> None:
    folder = RunFolder(tmp_path)
    folder.keep(tiny.sweep())
    folder.check(tiny.sweep(**changes))


def test_requests_come_and_are_forgotten(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with Ledger.open(tmp_path):
        assert not folder.requested("pause")
        folder.request("pause")
        assert folder.requested("pause")
        assert not folder.requested("stop")
        folder.request("stop")
        assert folder.requested("stop")
        folder.forget_requests()
        assert not folder.requested("stop")
        folder.forget_requests()


def test_a_request_needs_a_driver(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"no driver has the run folder .* there is nothing to pause"):
        RunFolder(tmp_path).request("pause")
    assert list(tmp_path.iterdir()) == []


def test_a_request_survives_a_driver_that_has_just_begun(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with Ledger.open(tmp_path):
        beginning = threading.Timer(0.05, folder.forget_requests)
        beginning.start()
        folder.request("pause")
        beginning.join()
        assert folder.requested("pause")


def test_a_sweep_without_a_driver_is_stopped_for_good_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with Ledger.open(tmp_path) as ledger:
        ledger.append(opened())
        with pytest.raises(RunFolderError, match="in use by another driver"):
            folder.close_for_good()
    assert folder.close_for_good()
    assert not folder.close_for_good()
    (closed,) = read(tmp_path).of(Closed)
    assert closed.how == "stopped"


def test_a_sweep_that_never_began_cannot_be_stopped(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is not a run folder"):
        RunFolder(tmp_path).close_for_good()
    assert list(tmp_path.iterdir()) == []


def opened() -> Opened:
    return Opened(
        time=0,
        sweep="tiny",
        sweep_id="i",
        plan=tiny.sweep().plan().fingerprint(),
        trainer_version="corpus 1",
        software=software_version(),
        slots=1,
    )


def test_a_history_of_another_plan_or_trainer_is_refused(tmp_path: Path) -> None:
    plan = tiny.sweep().plan()
    history = History()
    check_history(history, plan, "corpus 1", tmp_path)
    history.apply(opened())
    check_history(history, plan, "corpus 1", tmp_path)
    with pytest.raises(RunFolderError, match="begun with another plan"):
        check_history(history, tiny.sweep(seed=1).plan(), "corpus 1", tmp_path)
    with pytest.raises(RunFolderError, match=r"begun with trainer corpus 1, and this is corpus 2: the corpus"):
        check_history(history, plan, "corpus 2", tmp_path)
