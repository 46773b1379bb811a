"""A sweep whose workers are all lost: what it says first, how fast it leaves, and what the next start has."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tiny
from fakes import FakeTracker

from orchestrator import launch
from orchestrator.ledger import Closed, read
from orchestrator.ports import PoolLostError
from orchestrator.progress import Quiet
from orchestrator.status import SweepStatus
from orchestrator.tracking.store import connect, store_uri
from orchestrator.trial import TrialState

LOST = "the cluster has not answered for 45 s"
# Ray ends its driver 15 s after that: nearly all of it is the pool's.
SOON_S = 8.0


@dataclass
class Record(Quiet):
    """What was said, and when; loses the pool once a trial has ended."""

    events: list[str] = field(default_factory=list)
    said_at: float = 0.0

    def say(self, text: str) -> None:
        self.events.append(text)
        self.said_at = time.monotonic()

    def update(self, status: SweepStatus) -> None:
        if status.ended:
            raise PoolLostError(LOST)

    def close(self) -> None:
        self.events.append("display closed")


class Gone(FakeTracker):
    """A tracker whose server is gone: closing takes all the time that it is given."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def close(self, timeout_s: float) -> bool:
        self.events.append(f"tracker waited for {timeout_s:g} s")
        return False


def test_it_is_said_before_anything_is_waited_for() -> None:
    display = Record()
    assert launch.leave_without_pool(PoolLostError(LOST), Gone(display.events), display) == 1
    assert display.events == ["display closed", f"scalesweep: {LOST}", "tracker waited for 2 s"]


@contextmanager
def falling_silent() -> Iterator[str]:
    """A server that answers the question whether it is there, and nothing after that."""
    asked, over = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if asked.is_set():
                over.wait()
                return
            asked.set()
            self.send_response(200)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *words: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            over.set()
            server.shutdown()


def test_with_a_silent_tracking_server_it_leaves_in_time_and_the_next_start_has_everything(
    run_folder_with_store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, display = run_folder_with_store, Record()
    with falling_silent() as server:
        sweep = tiny.sweep(scales=1, replicates=1, tracking={"uri": server})
        assert launch.run(sweep, folder, display) == 1
        took_s = time.monotonic() - display.said_at
    assert display.events[-1] == "display closed"
    assert f"scalesweep: {LOST}" in display.events
    assert 1.0 < took_s < SOON_S  # the server was waited for, but not for long
    history = read(folder)
    assert not history.of(Closed)
    assert any(trial.state is TrialState.COMPLETED for trial in history.trials.values())

    assert launch.run(tiny.sweep(scales=1, replicates=1), folder, Quiet()) == 0
    client = connect(store_uri(None, folder))
    runs = [run for each in client.search_experiments() for run in client.search_runs([each.experiment_id])]
    shown = {run.data.tags["trial_key"]: run for run in runs if "trial_key" in run.data.tags}
    for key, trial in read(folder).trials.items():
        assert shown[key].data.metrics["final_loss"] == pytest.approx(trial.loss)
