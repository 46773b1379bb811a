"""A Ray cluster of several nodes on this machine, whose nodes come and go while a pool works: what must hold.

A program of its own, `many_nodes.py FOLDER`, since the suite's process has a Ray session already. It fails with a
traceback.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    # The head notices a killed raylet after 4 s, not 14.
    RAY_health_check_initial_delay_ms="1000",
    RAY_health_check_period_ms="1000",
    RAY_health_check_timeout_ms="1000",
    RAY_health_check_failure_threshold="3",
)

from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION

from orchestrator.engine.cluster import ClusterLostError
from orchestrator.engine.pool import RayPool
from orchestrator.ports import Assignment, AttemptEnded, Outcome, Resources, TrainerRef
from search_spaces.errors import InputError
from search_spaces.scale import ModelScale
from search_spaces.space import HyperParameters
from trainers.api import Cause, TrialSpec

# Trains until it is asked to leave, or its file is there. On a node that has another corpus it cannot be built, and on
# one that is ill its process dies.
TRAINER = """
import os, signal, time
from trainers.api import CurvePoint, TrialPaused

version = "1"
if "ANOTHER_CORPUS" in os.environ:
    raise ValueError("this node has another corpus")

def train(spec, session):
    if "ILL" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    (session.workspace / "pid").write_text(str(os.getpid()))
    while not (session.workspace.parent / "go").exists():
        if session.should_stop():
            raise TrialPaused("handed over")
        time.sleep(0.02)
    session.emit(CurvePoint(tokens=spec.tokens, loss=1.0, time=time.time()))
"""
PATIENCE_S = 40.0
SPOT = Resources(labels={"ray.io/market-type": "spot"})
ANY = Resources()


class Bench:
    """A pool on the cluster, and attempts that are followed one by one."""

    def __init__(self, cluster: Any, folder: Path) -> None:
        (folder / "many_nodes_trainer.py").write_text(TRAINER)
        os.chdir(folder)
        self.folder = folder
        trainer = TrainerRef(name="many_nodes_trainer:train")
        (folder / "shared").mkdir()
        self.pool = RayPool(trainer=trainer, address=cluster.address, storage=str(folder / "shared"))
        self.attempts: dict[str, int] = {}

    def submit(self, key: str, resources: Resources = ANY) -> None:
        self.attempts[key] = self.attempts.get(key, 0) + 1
        scale = ModelScale(name="s", depth=1, width=8, ffn_width=8, heads=1, vocab_size=8, sequence_length=8)
        settings = HyperParameters(learning_rate=0.1, batch_size=1, beta2=0.9)
        spec = TrialSpec(key=key, scale=scale, tokens=64, eval_tokens=(64,), seed=0, settings=settings)
        workspace = self.folder / "trials" / key
        self.pool.submit(Assignment(spec=spec, attempt=self.attempts[key], resources=resources, workspace=workspace))

    def room(self, resources: Resources = ANY) -> float:
        """Seconds until there is room."""
        return self.until(lambda: self.pool.has_room(resources))

    def until(self, holds: Callable[[], bool]) -> float:
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < PATIENCE_S, "it did not come about in time"
            ended = [event for event in self.pool.wait(0.1) if isinstance(event, AttemptEnded)]
            assert not ended, ended
        return time.monotonic() - began

    def end(self) -> AttemptEnded:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            ends = [event for event in self.pool.wait(0.2) if isinstance(event, AttemptEnded)]
            if ends:
                (end,) = ends
                return end
        raise AssertionError("no attempt ended in time")

    def pid(self, key: str) -> int:
        """The worker that trains, once it does."""
        file = self.folder / "trials" / key / "pid"
        self.until(lambda: file.exists() and file.read_text() != "")
        found = int(file.read_text())
        file.unlink()
        return found


class Said(logging.Handler):
    """What the pool has warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[str] = []
        logging.getLogger("orchestrator").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())

    def about(self, what: str) -> list[str]:
        return [line for line in self._lines if what in line]


@contextmanager
def cluster_of_one() -> Iterator[Any]:
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 * 10**6}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def add(cluster: Any, *flaws: str, **labels: str) -> Any:
    env = dict.fromkeys(flaws, "1")
    return cluster.add_node(num_cpus=1, object_store_memory=80 * 10**6, labels=labels, env_vars=env, wait=False)


def say(what: str) -> None:
    sys.stdout.write(f"{time.monotonic():.1f} {what}\n")
    sys.stdout.flush()


def main(folder: Path) -> None:
    with cluster_of_one() as cluster:
        first, unfit, said = add(cluster), add(cluster, "ANOTHER_CORPUS"), Said()
        cluster.wait_for_nodes()
        bench = Bench(cluster, folder)
        pool = bench.pool
        pool.start()
        try:
            refused(bench)
            left_out(bench, cluster, unfit, said)
            ill(bench, cluster, said)
            joined(bench, cluster)
            told_to_go(bench)
            killed(bench, first)
            drained(bench, cluster)
            replaced(bench, cluster)
        finally:
            pool.close()


def refused(bench: Bench) -> None:
    """A label that no node has, with every type of node; the head without processors takes no work."""
    try:
        bench.pool.check({"s7": SPOT})
    except InputError as error:
        assert "'s7'" in str(error), error
        assert "labels: {ray.io/market-type: spot}" in str(error), error
        assert "1 with cpus: 1" in str(error), error
        assert "1 with cpus: 0" in str(error), error
    else:
        raise AssertionError("a label that no node has was not refused")
    assert bench.pool.slots == 1
    assert not bench.pool.has_room(SPOT)
    say("refused")


def left_out(bench: Bench, cluster: Any, unfit: Any, said: Said) -> None:
    """Nodes that cannot build the trainer get no trial and are named once, there at the start or joining later."""
    bench.submit("stays")
    joins = add(cluster, "ANOTHER_CORPUS")
    cluster.wait_for_nodes()
    bench.until(lambda: bench.pool.has_room(ANY) or len(said.about("is left out")) > 1)
    for _ in range(3):
        assert not bench.pool.has_room(ANY)
        assert not bench.pool.wait(1.0)
    for node, line in zip((unfit, joins), said.about("is left out"), strict=True):
        assert f"node {node.node_id[:8]} (" in line, line
        assert "this node has another corpus" in line, line
        cluster.remove_node(node)
    say("left out")


def ill(bench: Bench, cluster: Any, said: Said) -> None:
    """A node where each worker dies gets no further trial once three have, and is named."""
    node = add(cluster, "ILL")
    cluster.wait_for_nodes()
    for key in ("x", "y", "x"):
        bench.room(ANY)
        bench.submit(key)
        end = bench.end()
        assert (end.key, end.cause) == (key, Cause.WORKER_LOST), end
    for _ in range(3):
        assert not bench.pool.has_room(ANY)
        assert not bench.pool.wait(1.0)
    (line,) = said.about("gets no trial for 60 s")
    assert f"node {node.node_id[:8]} (" in line, line
    cluster.remove_node(node)
    say("ill")


def joined(bench: Bench, cluster: Any) -> None:
    """A node that joins gets work within seconds, and only there a trial that wants its label."""
    add(cluster, **SPOT.labels)
    cluster.wait_for_nodes()
    seconds = bench.room(SPOT)
    assert seconds < 10, seconds
    bench.submit("moves", SPOT)
    assert not bench.pool.has_room(ANY)
    say(f"joined after {seconds:.1f} s")


def told_to_go(bench: Bench) -> None:
    """A worker that gets SIGTERM hands over and gets nothing any more."""
    pid = bench.pid("moves")
    os.kill(pid, signal.SIGTERM)
    end = bench.end()
    assert (end.key, end.outcome, end.cause) == ("moves", Outcome.PAUSED, Cause.PREEMPTED), end
    bench.room(SPOT)
    bench.submit("moves", SPOT)
    assert bench.pid("moves") != pid
    say("told to go")


def killed(bench: Bench, node: Any) -> None:
    """A raylet that is killed: its trial is given back, and the other node's goes on."""
    began = time.monotonic()
    node.kill_raylet()
    end = bench.end()
    seconds = time.monotonic() - began
    assert (end.key, end.outcome, end.cause) == ("stays", Outcome.FAILED, Cause.NODE_LOST), end
    assert seconds < 10, seconds
    assert not bench.pool.has_room(ANY)
    say(f"killed, noticed after {seconds:.1f} s")


def drained(bench: Bench, cluster: Any) -> None:
    """A node that is about to be taken away hands over; when all is over, the trials go on elsewhere."""
    node = next(node for node in bench.pool.nodes if bench.pool.nodes[node].labels)
    GcsClient(address=cluster.address).drain_node(node, DRAIN_NODE_REASON_PREEMPTION, "spot", 0)
    end = bench.end()
    assert (end.key, end.outcome, end.cause) == ("moves", Outcome.PAUSED, Cause.PREEMPTED), end
    assert not bench.pool.has_room(SPOT)
    (bench.folder / "trials" / "go").touch()
    add(cluster)
    bench.room(ANY)
    for key in ("stays", "moves"):
        bench.room(ANY)
        bench.submit(key)
        assert bench.end().outcome is Outcome.COMPLETED
    say("drained")


def replaced(bench: Bench, cluster: Any) -> None:
    """A head that is killed and started again knows nothing of the old cluster: that is said, soon."""
    began = time.monotonic()
    cluster.head_node.kill_gcs_server()
    cluster.head_node.start_gcs_server()
    try:
        bench.until(lambda: False)
    except ClusterLostError as error:
        assert "started anew" in str(error), error
        assert "give the same command again" in str(error), error
    say(f"head replaced, noticed after {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
