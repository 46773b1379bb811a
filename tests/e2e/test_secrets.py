"""Planted secrets turn up nowhere: not in the run folder, not in what is printed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import tiny
from shell import ENVIRONMENT, PATIENCE_S, SCALESWEEP, write_sweep

SECRETS = {
    "PGPASSWORD": "planted-postgres-password",
    "MLFLOW_TRACKING_PASSWORD": "planted/mlflow@password",
    "MLFLOW_TRACKING_TOKEN": "planted-mlflow-token",
    "AWS_SECRET_ACCESS_KEY": "planted+aws/secret",
    "RAY_AUTH_TOKEN": "planted0ray0token0planted0ray0token0",
}
# A trainer whose error quotes all it knows, as careless programs do.
TELLTALE = """
import logging, os, warnings
version = "1"
def train(spec, session):
    known = {name: value for name, value in os.environ.items() if "planted" in value}
    logging.getLogger("telltale").warning("starting with %s", known)
    raise RuntimeError(f"no route to postgresql://me:{os.environ['PGPASSWORD']}@host and {known}")
"""


def scalesweep_with_secrets(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [SCALESWEEP, *arguments]
    environment = {**ENVIRONMENT, **SECRETS}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def test_planted_secrets_turn_up_nowhere(tmp_path: Path, run_folder_with_store: Path) -> None:
    assert run_folder_with_store == tmp_path
    (tmp_path / "run").mkdir()
    (tmp_path / "mlflow.db").rename(tmp_path / "run" / "mlflow.db")
    (tmp_path / "telltale.py").write_text(TELLTALE)
    content = tiny.content(
        scales=1,
        trials=2,
        replicates=1,
        trainer={"name": "telltale:train"},
        studies={"uri": "sqlite:///run/studies.db"},
    )
    write_sweep(tmp_path, content)
    shown = [scalesweep_with_secrets("run", "sweep.yaml", "--dir", "run", cwd=tmp_path)]
    assert shown[0].returncode == 1, shown[0]
    assert "no route to postgresql://me:***@host" in shown[0].stdout
    shown += [scalesweep_with_secrets(*verb, cwd=tmp_path) for verb in (("status", "run", "--json"), ("status", "run"))]
    printed = "".join(each.stdout + each.stderr for each in shown)
    assert "starting with" in printed
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"ledger.jsonl", "sweep.yaml", "mlflow.db", "studies.db"} <= {path.name for path in files}
    for name, secret in SECRETS.items():
        assert secret not in printed, name
        holding = [path.name for path in files if secret.encode() in path.read_bytes()]
        assert not holding, (name, holding)
    assert b"***" in (tmp_path / "run" / "ledger.jsonl").read_bytes()


def test_the_plants_would_be_found(tmp_path: Path) -> None:
    """The trainer above does tell, where nobody masks."""
    (tmp_path / "telltale.py").write_text(TELLTALE)
    told = subprocess.run(
        ["python3", "-c", "import telltale; telltale.train(None, None)"],
        cwd=tmp_path,
        env={**os.environ, **SECRETS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert all(secret in told.stderr for secret in SECRETS.values())
