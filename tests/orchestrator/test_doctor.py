"""The doctor's findings."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import yaml

from orchestrator.doctor import examine


def checks(sweep: str | None) -> tuple[int, list[str]]:
    said: list[str] = []
    code = examine(sweep, said.append)
    return code, "".join(said).splitlines()


@pytest.mark.usefixtures("ray_session")
def test_a_sound_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(tiny.content()))
    code, lines = checks("sweep.yaml")
    assert code == 0, lines
    assert lines[-1] == "all is well"
    names = [line[6:20].strip() for line in lines[:-1]]
    assert names[:6] == ["python", "ray", "torch", "transformers", "optuna", "mlflow"]
    assert names[6:] == ["devices", "disk", "ray", "mlflow store", "sweep"]
    assert "14 trials over 4 scales" in lines[-2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep.yaml"]


@pytest.mark.usefixtures("ray_session")
def test_what_is_wrong_is_said_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(tiny.content(trials=0)))
    code, lines = checks("sweep.yaml")
    assert code == 1
    assert lines[-3].startswith("WRONG sweep")
    assert "-> sweep.yaml: trials is 0" in lines[-2]
    assert lines[-1] == "1 thing is wrong"
