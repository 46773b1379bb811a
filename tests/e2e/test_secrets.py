"""Planted secrets turn up nowhere: not in the run folder, not in what is printed."""

from __future__ import annotations

import os
import subprocess
import sys
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


# A training script that shows its environment twice, as careless ones do for debugging.
CARELESS = """
import json, os, sys
print(os.environ, flush=True)
print(json.dumps(dict(os.environ)), file=sys.stderr)
with open(os.environ["SCALESWEEP_CURVE"], "a") as curve:
    for tokens in json.load(open(os.environ["SCALESWEEP_TRIAL"]))["eval_tokens"]:
        print(json.dumps({"tokens": tokens, "loss": 3.0}), file=curve, flush=True)
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
    assert not any(secret in printed for secret in SECRETS.values())
    check_files(tmp_path / "run", {"ledger.jsonl", "sweep.yaml", "mlflow.db", "studies.db"})
    assert b"***" in (tmp_path / "run" / "ledger.jsonl").read_bytes()


def check_files(folder: Path, expected: set[str]) -> None:
    """That the folder holds such files and no secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert expected <= {path.name for path in files}
    for name, secret in SECRETS.items():
        holding = [path.name for path in files if secret.encode() in path.read_bytes()]
        assert not holding, (name, holding)


def test_what_a_command_prints_is_kept_without_secrets(tmp_path: Path, run_folder_with_store: Path) -> None:
    assert run_folder_with_store == tmp_path
    (tmp_path / "run").mkdir()
    (tmp_path / "mlflow.db").rename(tmp_path / "run" / "mlflow.db")
    (tmp_path / "careless.py").write_text(CARELESS)
    trainer = {"command": f"{sys.executable} careless.py"}
    write_sweep(tmp_path, tiny.content(scales=1, trials=2, replicates=1, trainer=trainer))
    shown = scalesweep_with_secrets("run", "sweep.yaml", "--dir", "run", cwd=tmp_path)
    assert shown.returncode == 0, shown
    check_files(tmp_path / "run", {"ledger.jsonl", "stdout.txt", "stderr.txt"})
    for output in (tmp_path / "run").rglob("std*.txt"):
        printed = output.read_text()
        assert "AWS_SECRET_ACCESS_KEY" in printed
        assert "RAY_AUTH_TOKEN" not in printed
        assert "***" in printed


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
