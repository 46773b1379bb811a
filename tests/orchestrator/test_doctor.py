"""The doctor's findings."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import tiny
import yaml

from orchestrator.checks import Finding, guarded
from orchestrator.doctor import examine


def examined(folder: Path, **changes) -> tuple[int, dict[str, str], str]:
    """The exit code, what is said of each thing (WRONG before it, its remedy behind it), and the last line."""
    (folder / "sweep.yaml").write_text(yaml.safe_dump(tiny.content(**changes)))
    said: list[str] = []
    code = examine("sweep.yaml", [], said.append)
    *lines, last = "".join(said).splitlines()
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if "->" in line and not line[:6].strip():
            found[name] += line
        else:
            name = line[6:20].strip()
            found[name] = line[:6].strip() + " " + line[20:].strip()
    return code, found, last


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_wrong_sweep_is_one_finding_with_a_remedy(tmp_path: Path) -> None:
    code, found, last = examined(tmp_path, trials=0)
    assert code == 1
    assert list(found)[:6] == ["python", "ray", "torch", "transformers", "optuna", "mlflow"]
    assert list(found)[6:] == ["devices", "disk", "sweep"]
    assert found["sweep"].startswith("WRONG not usable")
    assert "-> sweep.yaml: trials is 0" in found["sweep"]
    assert last == "1 thing is wrong"
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


def test_stores_that_work_are_tried_out_and_left_empty(tmp_path: Path, run_folder_with_store: Path) -> None:
    import optuna

    from orchestrator.tracking.store import connect

    tracking, studies = (f"sqlite:///{tmp_path / name}" for name in ("mlflow.db", "studies.db"))
    storage = tmp_path / "shared"
    storage.mkdir()
    code, found, last = examined(tmp_path, tracking={"uri": tracking}, studies={"uri": studies}, storage=str(storage))
    assert (code, last) == (0, "all is well"), found
    assert found["mlflow"].endswith("lets us in and write")
    assert found["optuna"].endswith("lets us in and write, schema in place")
    assert found["storage"] == f"ok {storage}: written and read back"
    assert optuna.get_all_study_names(f"{studies}") == []
    assert [each.name for each in connect(tracking).search_experiments()] == ["Default"]


def test_stores_that_are_not_there(tmp_path: Path) -> None:
    changes = {"tracking": {"uri": "http://127.0.0.1:9"}, "studies": {"uri": "postgresql+psycopg://me@127.0.0.1:9/x"}}
    code, found, last = examined(tmp_path, **changes)
    assert code == 1
    assert "-> MLflow at http://127.0.0.1:9 does not answer" in found["mlflow"]
    assert "-> postgresql+psycopg://me@127.0.0.1:9/x does not answer" in found["optuna"]
    assert last == "2 things are wrong"


@pytest.mark.usefixtures("ray_session")
def test_every_node_is_asked_what_it_sees(tmp_path: Path) -> None:
    storage = tmp_path / "shared"
    storage.mkdir()
    code, found, last = examined(
        tmp_path, storage=str(storage), cluster={"address": "auto"}, tracking={"uri": "http://127.0.0.1:9"}
    )
    assert (code, last) == (1, "1 thing is wrong"), found  # MLflow, seen from the driver
    assert found["cluster"] == "ok auto: 1 nodes"
    (node,) = [said for name, said in found.items() if name.startswith("node ")]
    assert "storage and trainer as here; stores from there: InputError: MLflow at http://127.0.0.1:9" in node
    assert list(storage.rglob("*/*")) == []


@pytest.mark.usefixtures("ray_session")
def test_without_a_sweep_ray_and_a_store_are_started_here() -> None:
    said: list[str] = []
    assert examine(None, [], said.append) == 0
    names = [line[6:20].strip() for line in "".join(said).splitlines()]
    assert names[6:10] == ["devices", "disk", "ray", "mlflow store"]


def test_a_check_that_hangs_is_a_finding() -> None:
    def hang() -> Finding:
        time.sleep(5)
        return Finding("x", "never")

    began = time.monotonic()
    assert guarded("x", hang, timeout_s=0.2).remedy
    assert time.monotonic() - began < 2


def test_a_check_that_breaks_is_a_finding_without_secrets() -> None:
    def broken() -> Finding:
        raise RuntimeError("cannot open postgresql://me:secret@host/x")

    found = guarded("x", broken)
    assert found.seen == "RuntimeError: cannot open postgresql://me:***@host/x"
    assert found.remedy
