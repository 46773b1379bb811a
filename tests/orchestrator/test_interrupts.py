"""Ctrl-C and SIGTERM to a driver: what the first and the second do."""

from __future__ import annotations

import os
import signal

import pytest

from orchestrator.launch import Interrupts


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_anything_runs_the_first_ends_it(number: signal.Signals) -> None:
    interrupts = Interrupts()
    with interrupts.caught(), pytest.raises(KeyboardInterrupt):
        send(number)


def test_a_running_sweep_is_asked_once_and_ended_the_second_time() -> None:
    interrupts = Interrupts()
    with interrupts.caught():
        interrupts.running = True
        send(signal.SIGINT)
        assert (interrupts.count, interrupts.terminated) == (1, False)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)
    assert interrupts.terminated


def test_the_handlers_that_were_there_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts().caught():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
