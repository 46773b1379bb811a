"""What is done about each cause of failure: how often a trial is tried again, and after how long."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.trial import Trial
from trainers.api import Cause


@dataclass(frozen=True, kw_only=True)
class Retry:
    """`tries` more starts after failures of this cause (None: without end).

    The first comes `delay_s` seconds later, each further one twice as long after its failure, up to `longest_s`.
    """

    tries: int | None
    delay_s: float = 0.0
    longest_s: float = 60.0

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after so many failures of the cause (1: the first)."""
        doublings = min(failures - 1, 30)  # 2.0**30 times the shortest wait is beyond any cap
        return float(min(self.longest_s, self.delay_s * 2.0**doublings))


# Losing a machine is nobody's fault and costs only the work since the last checkpoint. What may pass (memory that
# others on the node hold, a full disk, a storage that does not answer) is waited for. A program that fails is given one
# more chance, since a single failure may be the machine's. The numbers are guesses: a full disk is waited for about
# half an hour, a storage, for which each attempt waits two minutes by itself, about three hours.
RETRIES = {
    Cause.PREEMPTED: Retry(tries=None),
    Cause.DRIVER_LOST: Retry(tries=None),
    Cause.NODE_LOST: Retry(tries=20, delay_s=1.0),
    Cause.WORKER_LOST: Retry(tries=5, delay_s=0.5),
    Cause.OUT_OF_HOST_MEMORY: Retry(tries=3, delay_s=5.0),
    Cause.OUT_OF_DEVICE_MEMORY: Retry(tries=1, delay_s=5.0),
    Cause.DISK_FULL: Retry(tries=30, delay_s=5.0),
    Cause.STORAGE_UNREACHABLE: Retry(tries=60, delay_s=5.0),
    Cause.TIMED_OUT: Retry(tries=1),
    Cause.USER_ERROR: Retry(tries=1),
    Cause.BUG: Retry(tries=1),
}

# The same error this often, in whatever trials, is the program's and not the trial's.
SAME_ERROR_LIMIT = 2


def try_again(trial: Trial, cause: Cause) -> bool:
    """Whether a trial that has just failed for this cause is started once more."""
    allowed = RETRIES[cause].tries
    return allowed is None or trial.failures.get(cause, 0) < allowed


def wait_s(trial: Trial, cause: Cause) -> float:
    """Seconds before a trial that has just failed for this cause is started once more."""
    return RETRIES[cause].wait_s(trial.failures.get(cause, 0) + 1)
