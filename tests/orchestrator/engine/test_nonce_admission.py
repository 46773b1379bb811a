"""Which nodes may work: asked by real Ray tasks."""

from __future__ import annotations

import time
import uuid

import pytest

from orchestrator.engine.nodes import NodeSize
from orchestrator.storage.store import open_store
from search_spaces.errors import InputError

ANOTHER = "ab" * 28  # the id of a node that is not there
SIZE = NodeSize(cpus=1)
PATIENCE_S = 60.0


@pytest.fixture
def node(ray_session) -> str:
    """The one node that there is."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def test_a_node_that_shares_the_storage_is_admitted_and_leaves_nothing(node, tmp_path):
    from orchestrator.engine.nonce import Admission

    admission = Admission(str(tmp_path / "shared"))
    admission.start(lambda: {node: SIZE}, PATIENCE_S)
    assert admission.of({node: SIZE}) == {node: SIZE}
    admission.close()
    assert open_store(str(tmp_path / "shared")).names("") == []


def test_a_node_that_does_not_share_it_is_named_at_the_start(node):
    from orchestrator.engine.nonce import Admission

    storage = f"memory://{uuid.uuid4().hex}"  # each process has its own
    with pytest.raises(InputError, match=rf"node {node[:8]} does not share the storage {storage}: .*mount the folder"):
        Admission(storage).start(lambda: {node: SIZE}, PATIENCE_S)


def test_a_node_that_joins_and_cannot_answer_is_left_out_and_asked_again(node, tmp_path, caplog):
    from orchestrator.engine.nonce import Admission

    admission = Admission(str(tmp_path / "shared"))
    admission.start(lambda: {node: SIZE}, PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while "is asked again" not in caplog.text:
        assert admission.of({node: SIZE, ANOTHER: SIZE}) == {node: SIZE}
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert caplog.text.count(f"node {ANOTHER[:8]} has not tried the storage") == 1


def test_a_node_that_goes_while_the_storage_is_tried_is_left_out(node, tmp_path, caplog):
    """It is listed until it has failed to answer, as a node is whose end the head has not noticed."""
    from orchestrator.engine.nonce import Admission

    admission = Admission(str(tmp_path / "shared"))
    seen = {ANOTHER: 0}

    def alive() -> dict[str, NodeSize]:
        seen[ANOTHER] += 1
        return {node: SIZE} if "is asked again" in caplog.text else {node: SIZE, ANOTHER: SIZE}

    admission.start(alive, PATIENCE_S)
    assert seen[ANOTHER] > 1
    assert admission.of({node: SIZE}) == {node: SIZE}


def test_a_node_that_never_answers_does_not_keep_the_others_waiting_for_ever(node, tmp_path, caplog):
    from orchestrator.engine.nonce import Admission

    admission = Admission(str(tmp_path / "shared"))
    admission.start(lambda: {node: SIZE}, PATIENCE_S)
    admission.start(lambda: {node: SIZE, ANOTHER: SIZE}, 3.0)
    assert "does not share the storage" in caplog.text
    assert "it did not answer within 3 s" in caplog.text
    assert admission.of({node: SIZE, ANOTHER: SIZE}) == {node: SIZE}


def test_several_nodes_without_storage_are_refused_before_any_trial(node, caplog):
    from orchestrator.engine.nonce import Admission

    with pytest.raises(
        InputError, match=r"the cluster has other nodes than the driver's \(1\) and the sweep has no storage"
    ):
        Admission(None).start(lambda: {node: SIZE, ANOTHER: SIZE}, PATIENCE_S)
    alone = Admission(None)
    alone.start(lambda: {node: SIZE}, PATIENCE_S)
    assert alone.of({node: SIZE, ANOTHER: SIZE}) == {node: SIZE}
    assert "has no storage that it could share" in caplog.text
