"""Causes of failure as older ledgers wrote them."""

from __future__ import annotations

import pytest

from trainers.api import Cause


def test_a_ledger_of_the_first_version_is_still_read() -> None:
    assert Cause("out of memory") is Cause.OUT_OF_DEVICE_MEMORY


def test_an_unknown_cause_is_refused() -> None:
    with pytest.raises(ValueError, match="'bad luck' is not a valid Cause"):
        Cause("bad luck")
