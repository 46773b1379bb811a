"""Looks at the cluster's nodes every other second, in a thread of its own: without a head a look takes seconds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from ray.exceptions import AuthenticationError, RayError

from orchestrator.engine.cluster import KEPT, ClusterLostError, ask_for
from orchestrator.engine.roster import ClusterView, Roster
from orchestrator.ports import Resources

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0  # a joining node gets work, and a leaving one gives it back, within this and a moment; a guess
# A head that cannot be reached for so long is given up, seconds: Ray ends a driver (and every node) without a word
# of ours after gcs_rpc_server_reconnect_timeout_s = 60, and one that is started again within it is found again.
LOST_AFTER_S = 45.0


class Watch:
    """The latest view of the cluster. `wanted` is what an autoscaler is asked for at each look, if it changed."""

    def __init__(self) -> None:
        self._roster = Roster()
        self._view = ClusterView()
        self._seen_at = time.monotonic()
        self._looks = threading.Condition()
        self._hurry = threading.Event()
        self._closed = self._replaced = False
        self._asked: Sequence[Resources] = ()
        self.wanted: Sequence[Resources] = ()
        self._thread = threading.Thread(target=self._run, name="scalesweep-watch", daemon=True)
        self._thread.start()

    @property
    def view(self) -> ClusterView:
        """What was seen last."""
        return self._view

    @property
    def age_s(self) -> float:
        """Seconds since the cluster answered."""
        return time.monotonic() - self._seen_at

    def refresh(self, timeout_s: float) -> ClusterView:
        """A view that is younger than this call, if the cluster gives one within the time; the last one else."""
        asked_at = time.monotonic()
        self._hurry.set()
        with self._looks:
            self._looks.wait_for(lambda: self._seen_at > asked_at, timeout_s)
        return self._view

    def check(self) -> None:
        """Raises ClusterLostError where another cluster answers, or none has for LOST_AFTER_S."""
        if self._replaced:
            raise ClusterLostError(f"the Ray cluster's head was started anew and knows nothing of this sweep; {KEPT}")
        if self.age_s > LOST_AFTER_S:
            raise ClusterLostError(
                f"the Ray cluster has not answered for {self.age_s:.0f} s: "
                f"its head is gone or cannot be reached; {KEPT}"
            )

    def close(self, timeout_s: float) -> None:
        """Ask an autoscaler for nothing any more, and end the thread. It is left behind where nobody would hear."""
        self.wanted, self._closed = (), True
        self._hurry.set()
        if not self._replaced and self.age_s < LOST_AFTER_S:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._closed:
            self._look()
            self._hurry.wait(LOOK_EVERY_S)
            self._hurry.clear()
        self._look()  # so that an autoscaler hears of the end

    def _look(self) -> None:
        began = time.monotonic()
        try:
            view = self._roster.look()
            self._ask()
        except AuthenticationError as error:  # it answered before: this is another cluster, with other secrets or none
            logger.debug("another cluster answers: %s", error)
            self._replaced = True
            return
        except (RayError, OSError, RuntimeError, ValueError) as error:  # the cluster is going, or Ray is shut down
            logger.debug("no look at the cluster: %s", error)
            return
        with self._looks:
            self._view, self._seen_at = view, max(began, self._seen_at)
            self._looks.notify_all()

    def _ask(self) -> None:
        wanted = tuple(self.wanted)
        if wanted != self._asked:
            ask_for(wanted)
            self._asked = wanted
