"""The thread between a sweep and a store that comes and goes."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

import pytest

from orchestrator.courier import Courier, StoreUnreachable

PATIENCE_S = 20.0


@dataclass(frozen=True)
class Words:
    """A parcel of words."""

    words: tuple[str, ...]
    calls: int = 1

    def followed_by(self, later: Words) -> Words:
        return Words(self.words + later.words, self.calls + later.calls)


@dataclass
class Shelf:
    """A store whose next deliveries fail, before or after they arrived."""

    arrived: list[tuple[str, Words]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    opened: int = 0
    left: int = 0

    def open(self) -> Shelf:
        self.opened += 1
        return self

    def deliver(self, key: str, parcel: Words) -> None:
        how = self.failures.pop(0) if self.failures else ""
        if how == "before":
            raise UnboundLocalError("an odd error of somebody's")
        self.arrived.append((key, parcel))
        if how == "after":
            raise StoreUnreachable("it may have arrived")

    def leave(self) -> None:
        self.left += 1


def courier_of(shelf: Shelf) -> Courier[Words]:
    return Courier(name="test", opened=shelf.open, excuse=lambda error: f"not yet: {error}")


def test_what_is_put_together_is_delivered_together_and_keys_in_order() -> None:
    shelf = Shelf()
    courier = courier_of(shelf)
    for key, word in (("a", "1"), ("b", "2"), ("a", "3")):
        courier.put(key, Words((word,)))
    assert courier.pending == 3
    assert courier.close(PATIENCE_S)
    assert shelf.arrived == [("a", Words(("1", "3"), 2)), ("b", Words(("2",)))]
    assert (shelf.opened, shelf.left, courier.pending) == (1, 1, 0)


@pytest.mark.parametrize("how", ["before", "after"])
def test_an_outage_loses_nothing_and_is_said_once(how: str, caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(failures=[how] * 3)
    courier = courier_of(shelf)
    courier.put("a", Words(("1",)))
    courier.put("b", Words(("2",)))
    with caplog.at_level(logging.WARNING):
        assert courier.close(PATIENCE_S)
    assert {key for key, _ in shelf.arrived} == {"a", "b"}
    assert shelf.opened == 4  # each time anew
    assert len([record for record in caplog.records if "not yet" in record.message]) == 1


def test_a_store_that_never_opens_costs_no_more_than_the_patience() -> None:
    def never() -> Shelf:
        raise OSError("nobody there")

    courier: Courier[Words] = Courier(name="test", opened=never, excuse=str)
    courier.put("a", Words(("1",)))
    began = time.monotonic()
    assert not courier.close(0.5)
    assert time.monotonic() - began < 3
    assert courier.pending == 1


def test_one_that_was_never_used_opens_nothing() -> None:
    shelf = Shelf()
    assert courier_of(shelf).close(PATIENCE_S)
    assert shelf.opened == 0
