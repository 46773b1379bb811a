"""Secrets are found, masked and refused; what is no secret stays as it is."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import config
from orchestrator.ledger import Closed, Ledger, read
from orchestrator.masking import masked, refuse_secrets
from search_spaces.errors import InputError

SECRET = "s3cr3t/of@mine"  # noqa: S105 - planted
BARE = "s3cr3t-of-mine"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql+psycopg://me:secret@host/db", "postgresql+psycopg://me:***@host/db"),
        ("at (postgresql://me:p@ss/word@host/db), again", "at (postgresql://me:***@host/db), again"),
        ("https://token@host/x", "https://***@host/x"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("http://host:5000", "http://host:5000"),
        ("postgresql+psycopg://me@host:5432/db", "postgresql+psycopg://me@host:5432/db"),
        ("sqlite:////home/me/x.db", "sqlite:////home/me/x.db"),
        ("mail me@host, s3://bucket/key", "mail me@host, s3://bucket/key"),
    ],
)
def test_addresses_are_masked_and_nothing_else(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_secrets_of_the_environment_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", f"{SECRET}-longer")
    monkeypatch.setenv("SOME_KEY", "123456")
    monkeypatch.setenv("A_TOKEN", "abc")
    text = f"a {SECRET} b {SECRET}-longer c 123456 abc"
    assert masked(text) == "a *** b *** c 123456 abc"


@given(
    password=st.text(
        st.characters(blacklist_categories=("Zs", "Cc", "Cs", "Zl", "Zp"), blacklist_characters="\"'"), min_size=3
    )
)
def test_no_password_of_an_address_is_left(password: str) -> None:
    shown = masked(f"postgresql://user:{password}@host.example/database")
    assert shown == "postgresql://user:***@host.example/database"


@pytest.mark.parametrize(
    "changes",
    [
        {"tracking": {"uri": f"http://me:{SECRET}@host:5000"}},
        {"tracking": {"uri": f"https://{BARE}@host:5000"}},
        {"tracking": {"url": f"http://me:{SECRET}@host:5000"}},
        {"studies": {"uri": f"postgresql+psycopg://me:{SECRET}@host/db"}},
        {"studies": {"uri": f"postgresql+psycopg://host/db?user=me&password={SECRET}"}},
        {"trainer": {"command": f"train --store http://me:{SECRET}@host"}},
        {"trainer": {"command": "train", "env": {"WANDB_API_KEY": SECRET}}},
        {"trainer": {"command": "train", "env": {"DB_PASS": SECRET}}},
        {"trainer": {"command": f"train --hf-token={SECRET}"}},
        {"trainer": {"command": ["train", "--db_password", SECRET]}},
        {"trainer": {"name": "synthetic", "auth_token": SECRET}},
        {"trainer": {"name": "synthetic", "stores": [f"ftp://me:{SECRET}@host"]}},
    ],
    ids=str,
)
def test_a_sweep_file_with_a_secret_is_refused_without_repeating_it(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the environment") as caught:
        tiny.sweep(**changes)
    assert SECRET not in str(caught.value)
    assert BARE not in str(caught.value)


def test_an_override_with_a_secret_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        config.load("laptop", [f"tracking.uri=http://me:{SECRET}@host"])
    assert SECRET not in str(caught.value)
    assert BARE not in str(caught.value)


def test_a_secret_of_the_environment_in_a_command_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with pytest.raises(InputError, match="with a password or token"):
        tiny.sweep(trainer={"command": f"train --token {SECRET}"})


def test_keys_that_only_sound_like_secrets_are_none() -> None:
    refuse_secrets(
        {"tokenizer": {"bpe": 8192}, "eos_token": "<eos>", "text_key": "body", "tokens": "1e9", "key": "x"}, source="x"
    )
    for command in (
        "train --tokens 10 --bos-token <s> --tokenizer gpt2 --key-dim 64 --pass 2",
        "train --api-key $API_KEY --password {key} --secret --lr 1",
    ):
        refuse_secrets({"command": command, "words": command.split()}, source="x")


def test_log_records_hold_no_secret(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from orchestrator.masking import mask_logs

    monkeypatch.setenv("PGPASSWORD", SECRET)
    before = logging.getLogRecordFactory()
    mask_logs()
    try:
        try:
            raise ConnectionError(f"no route to postgresql://me:{SECRET}@host")  # noqa: TRY301
        except ConnectionError:
            logging.getLogger("somebody.elses").exception("it failed with %s", SECRET)
    finally:
        logging.setLogRecordFactory(before)
    assert "it failed with ***" in caplog.text
    assert "ConnectionError: no route to postgresql://me:***@host" in caplog.text
    assert SECRET not in caplog.text


def test_messages_of_the_ledger_hold_no_secret(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)
    with Ledger.open(tmp_path) as ledger:
        ledger.append(Closed(time=1.0, how="failed", message=f"environ: {SECRET}"))
        (said,) = ledger.history.of(Closed)
    assert said.message == "environ: ***"
    assert read(tmp_path).of(Closed) == [said]
    assert SECRET not in (tmp_path / "ledger.jsonl").read_text()
