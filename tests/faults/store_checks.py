"""Writes what MLflow and Optuna have that a run folder has not, or the other way round, as JSON.

Run as `store_checks.py SWEEP RUN_DIR` on a host that reaches the servers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from driven import Case
from what_holds import faults_of_mlflow, faults_of_studies

from orchestrator import config


def main(file: str, folder: str) -> None:
    """A list of faults for each of the two, empty if there are none."""
    sweep, case = config.load(file), Case(root=Path(file).parent, file=Path(file))
    found = {"MLflow": faults_of_mlflow(Path(folder), sweep.tracking.uri)}
    if sweep.studies.uri is not None:
        found["Optuna"] = faults_of_studies(case, Path(folder), sweep.studies.uri)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
