"""Two addresses of one database are found out, and nothing else is taken for one."""

from __future__ import annotations

import pytest
import tiny

from orchestrator.courier import StoreUnreachable
from orchestrator.databases import check_apart, check_database, parse
from search_spaces.errors import InputError

PG = "postgresql+psycopg://me@host/db"


@pytest.mark.parametrize(
    ("tracking", "studies"),
    [
        (PG, PG),
        (PG, "postgresql://other@HOST:5432/db"),
        ("postgresql://me@localhost/db", "postgresql+psycopg://127.0.0.1/db"),
        ("sqlite:///x.db", "sqlite:///./x.db"),
    ],
)
def test_one_database_for_both_is_refused(tracking: str, studies: str) -> None:
    with pytest.raises(InputError, match="are one database"):
        check_apart(tracking, studies)
    with pytest.raises(InputError, match="are one database"):
        tiny.sweep(tracking={"uri": tracking}, studies={"uri": studies})


@pytest.mark.parametrize(
    ("tracking", "studies"),
    [
        (PG, None),
        (None, PG),
        ("http://host:5000", PG),
        (PG, "postgresql+psycopg://me@host/db2"),
        (PG, "postgresql+psycopg://me@host:5433/db"),
        (PG, "postgresql+psycopg://me@host2/db"),
        ("sqlite:///x.db", "sqlite:///y.db"),
    ],
)
def test_two_databases_are_fine(tracking: str | None, studies: str | None) -> None:
    check_apart(tracking, studies)


@pytest.mark.parametrize("uri", ["", "x", "http://host:5000", "postgresql://host:port/db", "redis://host/0"])
def test_what_is_no_database_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match=r"studies\.uri is .*; give a database"):
        parse(uri, key="studies.uri")
    with pytest.raises(InputError, match=r"studies\.uri is .*; give a database"):
        tiny.sweep(studies={"uri": uri})


def test_a_driver_that_is_not_installed_is_named() -> None:
    with pytest.raises(InputError, match=r"whose driver is not installed.*pip install '\.\[postgres\]'"):
        check_database("postgresql+pg8000://me@127.0.0.1:9/db", key="studies.uri")


def test_a_server_that_is_not_there_may_come_back() -> None:
    with pytest.raises(StoreUnreachable, match="does not answer"):
        check_database("postgresql+psycopg://me@127.0.0.1:9/db", key="studies.uri")
