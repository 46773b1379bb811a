"""The Slurm script: what shellcheck says, and what it does with stand-ins for Slurm's commands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from deploy_files import DEPLOY, TOOLS, complaints

SCRIPT = DEPLOY / "slurm" / "sweep.sbatch"
DIRECTIVES = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?", SCRIPT.read_text(), flags=re.MULTILINE))

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts the script where srun runs the given shell lines, and every command is written down."""

    def begin(srun: str, **variables: str) -> subprocess.Popen[str]:
        stand_in(tmp_path, "srun", f'env > "{tmp_path}/srun.env"\n{srun}')
        stand_in(tmp_path, "scontrol", "")
        stand_in(tmp_path, "scalesweep", f'touch "{tmp_path}/paused"')
        job = {"SLURM_JOB_ID": "123", "SLURM_JOB_NUM_NODES": "3", "SLURM_CPUS_ON_NODE": "8"}
        return subprocess.Popen(
            ["bash", SCRIPT, "mine.yaml", "/shared/mine", "--set", "tracking.uri=http://there:5000"],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **job, **variables},
            cwd=tmp_path,
            text=True,
        )

    return begin


def stand_in(folder: Path, name: str, lines: str) -> None:
    path = folder / name
    path.write_text(f'#!/bin/bash\necho "{name} $*" >> "{folder}/called"\n{lines}\n')
    path.chmod(0o755)


def called(folder: Path) -> list[str]:
    return (folder / "called").read_text().splitlines()


def test_the_script_passes_shellcheck() -> None:
    assert complaints(TOOLS / "shellcheck", SCRIPT) == ""


def test_slurm_is_told_to_warn_the_script_and_to_start_it_again() -> None:
    assert DIRECTIVES["signal"] == "B:USR1@600"
    assert "requeue" in DIRECTIVES
    assert DIRECTIVES["open-mode"] == "append"
    assert DIRECTIVES["ntasks-per-node"] == "1"
    assert "exclusive" in DIRECTIVES  # `ray stop` at the end would stop a neighbour's


def test_a_sweep_that_ends_is_not_started_again(start: Start, tmp_path: Path) -> None:
    assert start("exit 0").wait(timeout=20) == 0
    (srun,) = called(tmp_path)
    ray, _, driver = srun.partition(" -- ")
    assert re.search(r"ray symmetric-run --address \S+:20123 --min-nodes 3 --num-cpus=8$", ray)
    here = "--dir /shared/mine --set cluster.address=auto --set storage=/shared/mine-storage"
    assert driver == f"scalesweep run mine.yaml {here} --set tracking.uri=http://there:5000"


def test_a_storage_of_the_sweep_file_stands(start: Start, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nstorage: s3://bucket/mine\n")
    assert start("exit 0").wait(timeout=20) == 0
    (srun,) = called(tmp_path)
    assert "storage" not in srun


def handed_down(folder: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (folder / "srun.env").read_text().splitlines() if "=" in line)


@pytest.mark.parametrize(("given", "used"), [({}, "/shared/.cache"), ({"XDG_CACHE_HOME": "/fast"}, "/fast")])
def test_prepared_tokens_lie_where_every_node_finds_them(
    start: Start, tmp_path: Path, given: dict[str, str], used: str
) -> None:
    assert start("exit 0", **given).wait(timeout=20) == 0
    assert handed_down(tmp_path)["XDG_CACHE_HOME"] == used


def test_an_address_of_the_callers_is_the_heads(start: Start, tmp_path: Path) -> None:
    assert start("exit 0", SCALESWEEP_ADDRESS="192.0.2.7").wait(timeout=20) == 0
    assert "--address 192.0.2.7:20123 " in called(tmp_path)[0]


def test_the_token_is_in_the_environment_alone(start: Start, tmp_path: Path) -> None:
    start("exit 0").wait(timeout=20)
    handed = handed_down(tmp_path)
    assert handed["RAY_AUTH_MODE"] == "token"
    assert re.fullmatch("[0-9a-f]{64}", handed["RAY_AUTH_TOKEN"])
    assert handed["RAY_AUTH_TOKEN"] not in "".join(called(tmp_path))


def test_a_sweep_that_fails_is_not_started_again(start: Start, tmp_path: Path) -> None:
    assert start("exit 2").wait(timeout=20) == 2
    assert len(called(tmp_path)) == 1


def warn(job: subprocess.Popen[str], folder: Path, number: signal.Signals = signal.SIGUSR1) -> int:
    """What Slurm does before the time limit, or with SIGTERM when it ends the job; returns the script's exit code."""
    deadline = time.monotonic() + 20
    while not (folder / "srun.env").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.send_signal(number)
    return job.wait(timeout=20)


def test_before_the_time_limit_the_sweep_is_paused_and_the_job_goes_back_to_the_queue(
    start: Start, tmp_path: Path
) -> None:
    job = start('until [ -e "$(dirname "$0")/paused" ]; do sleep 0.05; done; exit 130')
    assert warn(job, tmp_path) == 130
    assert called(tmp_path)[1:] == ["scalesweep pause /shared/mine", "scontrol requeue 123"]


def test_a_sweep_that_ends_while_it_is_asked_to_pause_is_over(start: Start, tmp_path: Path) -> None:
    job = start('until [ -e "$(dirname "$0")/paused" ]; do sleep 0.05; done; exit 0')
    assert warn(job, tmp_path) == 0
    assert called(tmp_path)[1:] == ["scalesweep pause /shared/mine"]


def test_a_job_that_is_cancelled_does_not_come_back(start: Start, tmp_path: Path) -> None:
    job = start("sleep 1; exit 130")  # the driver pauses: Slurm sends SIGTERM to it as well
    assert warn(job, tmp_path, signal.SIGTERM) != 0
    assert len(called(tmp_path)) == 1
