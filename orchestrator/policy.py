"""What is done about each cause of failure: how often a trial is tried again, and after how long."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.trial import Trial
from trainers.api import Cause


@dataclass(frozen=True, kw_only=True)
class Retry:
    """`tries` more starts after a failure of this cause (None: without end), `delay_s` seconds apart."""

    tries: int | None
    delay_s: float = 0.0


# Losing a machine is nobody's fault and costs only the work since the last checkpoint. A program that
# fails is given one more chance, since a single failure may be the machine's. The numbers are guesses.
RETRIES = {
    Cause.PREEMPTED: Retry(tries=None),
    Cause.NODE_LOST: Retry(tries=20, delay_s=1.0),
    Cause.WORKER_LOST: Retry(tries=5, delay_s=0.5),
    Cause.OUT_OF_MEMORY: Retry(tries=1, delay_s=5.0),
    Cause.DISK_FULL: Retry(tries=60, delay_s=10.0),
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
