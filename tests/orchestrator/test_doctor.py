"""The doctor's findings."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import yaml

from orchestrator.doctor import examine


@pytest.mark.usefixtures("ray_session")
def test_each_thing_is_said_and_what_is_wrong_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(tiny.content(trials=0)))
    said: list[str] = []
    assert examine("sweep.yaml", said.append) == 1
    *sound, wrong, remedy, last = "".join(said).splitlines()
    assert all(line.startswith("ok ") for line in sound)
    names = [line[6:20].strip() for line in sound]
    assert names[:6] == ["python", "ray", "torch", "transformers", "optuna", "mlflow"]
    assert names[6:] == ["devices", "disk", "ray", "mlflow store"]
    assert wrong.startswith("WRONG sweep")
    assert "-> sweep.yaml: trials is 0" in remedy
    assert last == "1 thing is wrong"
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]
