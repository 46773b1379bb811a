"""A Ray head that asks for a token, and what `doctor` and `run` say with a wrong one, with none, with the right one.

A program of its own, `guarded_ray.py FOLDER`, since the suite's process has a Ray session already. It fails with a
traceback.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_USAGE_STATS_ENABLED="0")

import tiny
from ray.cluster_utils import Cluster
from shell import ENVIRONMENT, SCALESWEEP, listing, write_sweep

TOKEN = os.environ["RAY_AUTH_TOKEN"]
# Doctor takes 10 to 25 s on a busy machine, most of it for a database of MLflow's and for imports.
PATIENCE_S = 60.0
WRONG = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "another" + TOKEN}
# Each: what is said with it.
REFUSED: tuple[tuple[Mapping[str, str], str], ...] = (
    (WRONG, "refuses our token: set the RAY_AUTH_TOKEN"),
    ({"RAY_AUTH_MODE": "token"}, "RAY_AUTH_MODE is 'token', and there is no token for the Ray cluster at"),
    ({}, "asks for a token: set RAY_AUTH_MODE=token and the cluster's RAY_AUTH_TOKEN"),
)


@contextmanager
def guarded_head() -> Iterator[str]:
    """The address of a head with one processor that lets in who knows TOKEN."""
    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 10**6}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def scalesweep(verb: str, folder: Path, token: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The verb on the folder's sweep, in a home without a token."""
    known = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("RAY_AUTH")}
    environment = {**known, "HOME": str(folder.parent / "home"), **token}
    return subprocess.run(
        [SCALESWEEP, verb, "sweep.yaml"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def ours(errors: str) -> str:
    """What was written to standard error without the lines of Ray's own logger, each of which has its source's name."""
    return "".join(line for line in errors.splitlines(keepends=True) if "gcs_client.cc" not in line)


def refused(folder: Path, token: Mapping[str, str], expected: str) -> None:
    """One message, soon; with `run` exit code 2 and nothing written."""
    before = listing(folder)
    run = scalesweep("run", folder, token)
    assert (run.returncode, run.stdout) == (2, ""), run
    assert expected in run.stderr, run
    assert ours(run.stderr).startswith("scalesweep: "), run
    assert len(ours(run.stderr).splitlines()) == 1, run
    assert listing(folder) == before, listing(folder)
    assert TOKEN not in run.stderr


def diagnosed(folder: Path, token: Mapping[str, str], expected: str) -> None:
    """One thing is wrong, with its remedy."""
    doctor = scalesweep("doctor", folder, token)
    assert doctor.returncode == 1, doctor
    *_, wrong, remedy, last = doctor.stdout.splitlines()
    assert wrong.split() == ["WRONG", "cluster", "not", "usable"], doctor
    assert remedy.strip().startswith("-> "), doctor
    assert expected in remedy, doctor
    assert last == "1 thing is wrong", doctor
    assert ours(doctor.stderr) == "", doctor
    assert TOKEN not in doctor.stdout + doctor.stderr


def let_in(folder: Path) -> None:
    """With the cluster's token every node is asked."""
    doctor = scalesweep("doctor", folder, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN})
    assert doctor.returncode == 0, doctor
    assert ": 1 nodes\n" in doctor.stdout, doctor
    assert "storage and trainer as here" in doctor.stdout, doctor


def main(root: Path) -> None:
    folder, storage = root / "work", root / "shared"
    for made in (folder, storage, root / "home"):
        made.mkdir()
    with guarded_head() as address:
        content = tiny.content(scales=1, trials=2, cluster={"address": address}, storage=str(storage))
        write_sweep(folder, content)
        for token, expected in REFUSED:
            refused(folder, token, expected)
        diagnosed(folder, *REFUSED[0])
        diagnosed(folder, *REFUSED[1])
        let_in(folder)


if __name__ == "__main__":
    began = time.monotonic()
    main(Path(sys.argv[1]))
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")
