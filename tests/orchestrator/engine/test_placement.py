"""Placement on pretended nodes, without Ray."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.nodes import NodeSize
from orchestrator.engine.placement import HOLD_LAPSES_S, Placement
from orchestrator.ports import Resources

SMALL = Resources(cpus=1, gpus=0.25)
WHOLE = Resources(cpus=1, gpus=1)
LARGE = Resources(cpus=8, gpus=8)
EIGHT = NodeSize(cpus=64, gpus=8)


class Cluster:
    """Places as the pool does: asks, retires, adds, occupies."""

    def __init__(self, *nodes: NodeSize, max_workers: int | None = None) -> None:
        self.placement = Placement(max_workers=max_workers)
        self.placement.set_nodes({f"n{i}": node for i, node in enumerate(nodes)})
        self.now = 0.0
        self.count = 0

    def start(self, shape: Resources) -> str | None:
        grant = self.placement.request(shape, self.now)
        if grant is None:
            return None
        for worker in grant.retire:
            self.placement.remove(worker)
        worker = grant.worker
        if worker is None:
            self.count += 1
            worker = f"w{self.count}"
            self.placement.add(worker, shape, grant.node)
        self.placement.occupy(worker)
        return worker

    def fill(self, shape: Resources) -> list[str]:
        started = []
        while (worker := self.start(shape)) is not None:
            started.append(worker)
        return started


def test_small_trials_share_gpus():
    cluster = Cluster(EIGHT)
    workers = cluster.fill(SMALL)
    assert len(workers) == 32 == cluster.placement.slots(SMALL)
    used = [cluster.placement.seat(worker).gpus for worker in workers]
    assert {used.count((gpu,)) for gpu in range(8)} == {4}


def test_shares_that_do_not_divide_a_gpu_leave_the_rest_unused():
    assert len(Cluster(EIGHT).fill(Resources(cpus=1, gpus=0.3))) == 24
    assert len(Cluster(NodeSize(cpus=64, gpus=1)).fill(Resources(cpus=0.5, gpus=0.1))) == 10


def test_small_trials_are_packed_so_that_whole_nodes_stay_free():
    cluster = Cluster(EIGHT, EIGHT)
    for _ in range(20):
        cluster.start(SMALL)
    assert cluster.start(LARGE) is not None


def test_an_idle_worker_is_used_again():
    cluster = Cluster(EIGHT)
    worker = cluster.start(SMALL)
    cluster.placement.release(worker)
    assert cluster.start(SMALL) == worker


def test_idle_workers_of_another_shape_make_room():
    cluster = Cluster(NodeSize(cpus=4))
    one, two = Resources(cpus=1), Resources(cpus=2)
    small = cluster.fill(one)
    for worker in small[:2]:
        cluster.placement.release(worker)
    assert cluster.start(two) is not None
    assert cluster.start(one) is None
    assert cluster.start(two) is None


def test_a_large_trial_is_not_starved_by_small_ones():
    cluster = Cluster(EIGHT)
    small = cluster.fill(SMALL)
    assert cluster.start(LARGE) is None
    for worker in small:
        cluster.placement.release(worker)
        cluster.now += 1.0
        assert cluster.start(SMALL) is None
        if worker != small[-1]:
            assert cluster.start(LARGE) is None
    assert cluster.start(LARGE) is not None
    assert cluster.start(SMALL) is None


def test_only_one_node_is_held_for_a_large_trial():
    cluster = Cluster(EIGHT, EIGHT)
    small = cluster.fill(SMALL)
    assert cluster.start(LARGE) is None
    nodes = {cluster.placement.seat(worker).node: worker for worker in small}
    for worker in nodes.values():
        cluster.placement.release(worker)
    started = [cluster.start(SMALL), cluster.start(SMALL)]
    assert sum(worker is not None for worker in started) == 1


def test_a_hold_lapses_when_nobody_asks_any_more():
    cluster = Cluster(EIGHT)
    small = cluster.fill(SMALL)
    assert cluster.start(LARGE) is None
    cluster.placement.release(small[0])
    assert cluster.start(SMALL) is None
    cluster.now = HOLD_LAPSES_S + 1
    assert cluster.start(SMALL) == small[0]


def test_a_gone_worker_or_node_gives_no_room():
    cluster = Cluster(EIGHT)
    small = cluster.fill(SMALL)
    cluster.placement.remove(small[0])
    assert cluster.start(SMALL) is not None
    cluster.placement.set_nodes({})
    cluster.placement.release(small[1])
    assert cluster.start(SMALL) is None
    assert cluster.placement.slots(SMALL) == 0


def test_max_workers_bounds_what_lives_at_once():
    cluster = Cluster(EIGHT, max_workers=3)
    small = cluster.fill(SMALL)
    assert len(small) == 3 == cluster.placement.slots(SMALL)
    cluster.placement.release(small[0])
    assert cluster.start(WHOLE) is not None
    assert cluster.start(SMALL) is None


def test_memory_is_counted():
    node = NodeSize(cpus=64, memory_gib=100)
    assert len(Cluster(node).fill(Resources(cpus=1, memory_gib=30))) == 3


SHAPES = [SMALL, WHOLE, LARGE, Resources(cpus=1), Resources(cpus=4, gpus=0.5), Resources(cpus=2, gpus=2)]


@given(
    steps=st.lists(st.tuples(st.sampled_from(["start", "end"]), st.integers(0, 30)), max_size=60),
    nodes=st.lists(st.sampled_from([EIGHT, NodeSize(cpus=4), NodeSize(cpus=8, gpus=2)]), min_size=1, max_size=3),
)
def test_no_node_ever_gives_more_than_it_has(steps, nodes):
    cluster = Cluster(*nodes)
    running: list[str] = []
    for action, number in steps:
        if action == "start":
            worker = cluster.start(SHAPES[number % len(SHAPES)])
            if worker is not None:
                assert worker not in running
                running.append(worker)
        elif running:
            cluster.placement.release(running.pop(number % len(running)))
    shares: dict[tuple[str, int], float] = {}
    cpus: dict[str, float] = {}
    for worker in running:
        seat = cluster.placement.seat(worker)
        cpus[seat.node] = cpus.get(seat.node, 0) + seat.shape.cpus
        for gpu in seat.gpus:
            shares[seat.node, gpu] = shares.get((seat.node, gpu), 0) + min(seat.shape.gpus, 1)
    assert all(share <= 1 + 1e-9 for share in shares.values())
    assert all(used <= cluster.placement.nodes[node].cpus for node, used in cpus.items())


def test_labels_say_where_a_trial_may_run():
    spot = Resources(cpus=1, labels={"market": "spot"})
    cluster = Cluster(NodeSize(cpus=1), NodeSize(cpus=2, labels={"market": "spot", "zone": "b"}))
    assert cluster.placement.slots(spot) == 2
    workers = cluster.fill(spot)
    assert {cluster.placement.seat(worker).node for worker in workers} == {"n1"}
    anywhere = cluster.start(Resources(cpus=1))
    assert cluster.placement.seat(anywhere).node == "n0"
    assert cluster.start(Resources(cpus=1, labels={"market": "spot", "zone": "a"})) is None


def test_an_avoided_node_takes_only_what_no_other_can_hold():
    placement = Placement()
    nodes = {"a": NodeSize(cpus=1), "b": NodeSize(cpus=1, gpus=1)}
    placement.set_nodes(nodes, frozenset({"b"}))
    assert placement.request(Resources(), 0.0).node == "a"
    placement.add("worker", Resources(), "a")
    placement.occupy("worker")
    assert placement.request(Resources(), 0.0) is None  # it waits for a
    assert placement.request(Resources(gpus=1), 0.0).node == "b"
    placement.set_nodes(nodes)
    assert placement.request(Resources(), 0.0).node == "b"


def test_trials_that_differ_in_their_time_out_share_workers():
    cluster = Cluster(NodeSize(cpus=1))
    worker = cluster.start(Resources(cpus=1, timeout_s=1.0))
    cluster.placement.release(worker)
    assert cluster.start(Resources(cpus=1, timeout_s=2.0)) == worker


def test_what_an_autoscaler_should_know():
    cluster = Cluster(NodeSize(cpus=1))
    assert cluster.placement.wanted == []
    cluster.start(Resources(cpus=1))
    assert cluster.start(Resources(cpus=1)) is None
    assert cluster.start(Resources(cpus=2)) is None
    assert cluster.placement.wanted == [Resources(cpus=1), Resources(cpus=1), Resources(cpus=2)]
