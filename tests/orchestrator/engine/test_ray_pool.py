"""What only Ray has: shapes of workers, their environment, and what is left when a driver is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.ports import Assignment, AttemptEnded, Outcome, Resources, TrainerRef
from search_spaces.errors import InputError, ScalesweepError
from trainers.api import Cause

# Waits for a file, so that the test decides when a trial ends.
HOLDING = """
import json, os, time
from trainers.api import CurvePoint

version = "1"

def train(spec, session):
    names = ("CUDA_VISIBLE_DEVICES", "SCALESWEEP_GPU_FRACTION", "OMP_NUM_THREADS")
    (session.workspace / "seen").write_text(json.dumps({name: os.environ.get(name) for name in names}))
    while not (session.workspace.parent / f"go-{spec.key}").exists():
        time.sleep(0.01)
    session.emit(CurvePoint(tokens=spec.tokens, loss=1.0, time=time.time()))
"""
# One trial meets a GPU that is broken.
BROKEN_GPU = """
import os, time
from trainers.api import CurvePoint

version = "1"

def train(spec, session):
    (session.workspace / "pid").write_text(str(os.getpid()))
    if spec.key == "unlucky":
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
    session.emit(CurvePoint(tokens=spec.tokens, loss=1.0, time=time.time()))
"""
SMALL = Resources(cpus=0.1, gpus=0.25)
LARGE = Resources(cpus=0.1, gpus=8)
PATIENCE_S = 60.0

# A driver whose current folder has packages named like ours.
DRIVER = """
import os, sys
from pathlib import Path
sys.path.remove(os.getcwd()) if os.getcwd() in sys.path else None
from orchestrator.engine.pool import RayPool
from orchestrator.ports import Assignment, Resources, TrainerRef
from search_spaces.scale import ModelScale
from search_spaces.space import HyperParameters
from trainers.api import TrialSpec

scale = ModelScale(name="s", depth=1, width=8, ffn_width=8, heads=1, vocab_size=8, sequence_length=8)
spec = TrialSpec(key="k", scale=scale, tokens=64, eval_tokens=(64,), seed=0,
                 settings=HyperParameters(learning_rate=0.1, batch_size=1, beta2=0.9))
pool = RayPool(trainer=TrainerRef(name="killed_driver_trainer:train"), workers=1)
pool.start()
pool.submit(Assignment(spec=spec, attempt=1, resources=Resources(), workspace=Path.cwd() / "work"))
while True:
    print(pool.wait(1), flush=True)
"""
HANGING = """
import os, time
version = "1"
def train(spec, session):
    import trainers.session  # ours
    (session.workspace / "pid").write_text(str(os.getpid()))
    time.sleep(300)
"""


@pytest.fixture
def make_pool(ray_session, tmp_path, monkeypatch):
    """Make a pool for a trainer's source."""
    from orchestrator.engine.pool import RayPool

    monkeypatch.chdir(tmp_path)
    made = []

    def make(source: str, workers: int) -> RayPool:
        name = f"trainer_{len(made)}_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(source)
        made.append(RayPool(trainer=TrainerRef(name=f"{name}:train"), smallest=SMALL, workers=workers))
        made[-1].start()
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def ended(pool, count: int) -> list[AttemptEnded]:
    found: list[AttemptEnded] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert time.monotonic() < deadline
        found += [event for event in pool.wait(0.5) if isinstance(event, AttemptEnded)]
    return found


def seen(folder: Path) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while not ((folder / "seen").exists() and (folder / "seen").read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return (folder / "seen").read_text()


def test_small_trials_share_a_gpu_and_do_not_starve_a_large_one(make_pool, make_spec, tmp_path):
    pool = make_pool(HOLDING, workers=3)

    def submit(key: str, shape: Resources) -> None:
        pool.submit(Assignment(spec=make_spec(key), attempt=1, resources=shape, workspace=tmp_path / key))

    def let_go(key: str) -> None:
        (tmp_path / f"go-{key}").touch()

    assert pool.slots == 3
    for key in ("a", "b", "c"):
        submit(key, SMALL)
    views = {seen(tmp_path / key) for key in ("a", "b", "c")}
    assert views == {'{"CUDA_VISIBLE_DEVICES": "0", "SCALESWEEP_GPU_FRACTION": "0.25", "OMP_NUM_THREADS": "1"}'}
    assert not pool.has_room(LARGE)
    let_go("a")
    assert [end.key for end in ended(pool, 1)] == ["a"]
    assert not pool.has_room(SMALL)
    with pytest.raises(ScalesweepError, match="no room"):
        submit("d", SMALL)
    let_go("b")
    let_go("c")
    ended(pool, 2)
    assert pool.has_room(LARGE)
    submit("large", LARGE)
    assert '"0,1,2,3,4,5,6,7"' in seen(tmp_path / "large")
    assert not pool.has_room(SMALL)
    let_go("large")
    assert ended(pool, 1)[0].outcome is Outcome.COMPLETED
    assert pool.has_room(SMALL)


def test_a_cluster_that_is_not_there_is_said(tmp_path):
    code = "from orchestrator.engine.cluster import connect\nconnect('127.0.0.1:1')"
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert "InputError: there is no Ray cluster at '127.0.0.1:1'" in out.stderr


def descendants(pid: int) -> set[int]:
    table: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        table.setdefault(parent, []).append(int(stat.parent.name))
    found, todo = set(), [pid]
    while todo:
        children = table.get(todo.pop(), [])
        found.update(children)
        todo += children
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def lingers(pid: int) -> bool:
    """Ray's two agents end a minute later: so long they try to report the end to the head, which is gone."""
    command = Path(f"/proc/{pid}/cmdline")
    return alive(pid) and command.read_text().startswith(("ray::DashboardAgent", "ray::RuntimeEnvAgent"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_nothing_outlives_a_killed_driver_and_a_users_packages_hide_none_of_ours(tmp_path):
    for package in ("trainers", "orchestrator", "search_spaces"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('a package of the user')\n")
    (tmp_path / "killed_driver_trainer.py").write_text(HANGING)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "driver.py").write_text(DRIVER)
    with (tmp_path / "out").open("w") as out:
        driver = subprocess.Popen([sys.executable, "elsewhere/driver.py"], cwd=tmp_path, stdout=out, stderr=out)
    try:
        pid = tmp_path / "work" / "pid"
        deadline = time.monotonic() + PATIENCE_S
        while not (pid.exists() and pid.read_text()):
            assert time.monotonic() < deadline, (tmp_path / "out").read_text()
            assert driver.poll() is None, (tmp_path / "out").read_text()
            time.sleep(0.1)
        family = {process for process in descendants(driver.pid) if not lingers(process)}
        assert int(pid.read_text()) in family
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    deadline = time.monotonic() + PATIENCE_S
    while alive(int(pid.read_text())) or any(map(alive, family)):
        assert time.monotonic() < deadline, [Path(f"/proc/{p}/cmdline").read_text() for p in family if alive(p)]
        time.sleep(0.2)


def test_smallest_resources_that_fit_nowhere_are_refused(ray_session):
    from orchestrator.engine.pool import RayPool

    with pytest.raises(InputError, match="wants cpus: 64"):
        RayPool(trainer=TrainerRef(name="synthetic"), smallest=Resources(cpus=64)).start()


def test_a_worker_whose_gpu_is_lost_to_it_is_replaced(make_pool, make_spec, tmp_path):
    pool, ends, pids = make_pool(BROKEN_GPU, workers=1), [], set()
    for key in ("unlucky", "lucky"):
        assert pool.has_room(SMALL)
        pool.submit(Assignment(spec=make_spec(key), attempt=1, resources=SMALL, workspace=tmp_path / key))
        ends += ended(pool, 1)
        pids.add((tmp_path / key / "pid").read_text())
    assert [(end.outcome, end.cause) for end in ends] == [
        (Outcome.FAILED, Cause.WORKER_LOST),
        (Outcome.COMPLETED, None),
    ]
    assert len(pids) == 2
