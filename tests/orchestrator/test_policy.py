"""How often a trial is tried again."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from orchestrator.policy import RETRIES, try_again, wait_s
from orchestrator.storage.workspace import Pace
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


def test_what_was_taken_away_or_lost_with_its_driver_costs_nothing() -> None:
    assert {cause for cause in Cause if RETRIES[cause].tries is None} == {Cause.PREEMPTED, Cause.DRIVER_LOST}


@pytest.mark.parametrize("cause", Cause)
def test_waits_double_up_to_a_minute(make_trial, cause: Cause) -> None:
    waits = [wait_s(replace(make_trial(1), failures={cause: before}), cause) for before in range(200)]
    assert waits[0] == RETRIES[cause].delay_s
    assert all(later == min(60.0, 2 * earlier) for earlier, later in pairwise(waits))


def test_a_full_disk_is_waited_for_longer_than_a_coffee() -> None:
    retry = RETRIES[Cause.DISK_FULL]
    assert 20 * 60 < sum(retry.wait_s(failures) for failures in range(1, retry.tries + 1)) < 40 * 60


def test_a_storage_that_is_away_is_waited_for_through_a_night_shifts_repair() -> None:
    retry = RETRIES[Cause.STORAGE_UNREACHABLE]
    by_attempts = (retry.tries + 1) * Pace().patience_s
    between = sum(retry.wait_s(failures) for failures in range(1, retry.tries + 1))
    assert 2 * 3600 < by_attempts + between < 4 * 3600
