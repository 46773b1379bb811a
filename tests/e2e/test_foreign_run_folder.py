"""Reading somebody else's run folder runs nothing of what it names, and loads no pickle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tiny
import yaml

import orchestrator
import search_spaces
import trainers
from orchestrator.cli import main
from orchestrator.ledger import Ledger, Opened
from orchestrator.runfolder import RunFolder, software_version

HARM = "from pathlib import Path\nPath('harmed').touch()\ndef train(spec, session): ...\n"
# What loads code along with data, in every spelling that Python and our packages have.
_LOADS_PICKLES = re.compile(
    r"\b(pickle|cloudpickle|dill|joblib|shelve|marshal)\b|allow_pickle=True|yaml\.(unsafe_|full_)?load\(|"
    r"weights_only=False|read_pickle|(?<!safetensors\.)torch\.load\((?!.*weights_only=True)|mlflow\.\w+\.load_model|\beval\(|\bexec\("
)


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder of somebody else's in the current folder, beside a module that does harm when imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "harm.py").write_text(HARM)
    folder = RunFolder(tmp_path / "theirs")
    sweep = tiny.sweep(trainer={"name": "harm:train"})
    with Ledger.open(folder.path) as ledger:
        folder.keep(sweep)
        ledger.append(
            Opened(
                time=0.0,
                sweep="tiny",
                sweep_id="i",
                plan=sweep.plan().fingerprint(),
                trainer_version="x",
                software=software_version(),
                slots=1,
            )
        )
    return folder.path


@pytest.mark.parametrize("verb", ["status", "report", "fit", "sync", "ui", "pause", "stop"])
def test_reading_a_run_folder_imports_nothing_that_it_names(foreign: Path, verb: str, capsys) -> None:
    assert main([verb, str(foreign)]) in {0, 2}
    assert "Traceback" not in capsys.readouterr().err
    assert not Path("harmed").exists()


def test_planning_a_sweep_file_imports_nothing_that_it_names(foreign: Path) -> None:
    assert main(["plan", str(foreign / "sweep.yaml")]) == 0
    assert not Path("harmed").exists()


@pytest.mark.parametrize("command", ["touch harmed", "sh -c 'touch harmed'"])
def test_a_command_of_a_run_folder_is_not_run(foreign: Path, command: str) -> None:
    path = foreign / "sweep.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"trainer": {"command": command}}))
    for verb in ("status", "report", "fit", "sync", "stop"):
        assert main([verb, str(foreign)]) in {0, 2}
    assert not Path("harmed").exists()


def test_no_source_of_ours_loads_a_pickle() -> None:
    sources = [
        path for package in (orchestrator, trainers, search_spaces) for path in Path(package.__path__[0]).rglob("*.py")
    ]
    assert len(sources) > 100
    found = {
        f"{path.name}:{number}": line.strip()
        for path in sources
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if _LOADS_PICKLES.search(line.partition("#")[0])
    }
    assert found == {}
