"""How often a trial is tried again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.policy import RETRIES, try_again
from trainers.api import Cause


def test_every_cause_has_a_policy() -> None:
    assert set(RETRIES) == set(Cause)


@pytest.mark.parametrize("cause", Cause)
def test_tries_are_counted_by_cause(make_trial, cause: Cause) -> None:
    allowed = RETRIES[cause].tries
    others = {other: 1000 for other in Cause if other is not cause}
    if allowed is None:
        assert try_again(replace(make_trial(1), failures=others | {cause: 1000}), cause)
        return
    assert try_again(replace(make_trial(1), failures=others | {cause: allowed - 1}), cause)
    assert not try_again(replace(make_trial(1), failures={cause: allowed}), cause)


def test_a_lost_machine_costs_no_user_his_trial_and_a_broken_program_does() -> None:
    assert RETRIES[Cause.PREEMPTED].tries is None
    assert all(RETRIES[cause].tries == 1 for cause in (Cause.USER_ERROR, Cause.BUG, Cause.TIMED_OUT))
