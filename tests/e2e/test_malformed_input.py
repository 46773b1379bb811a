"""Hundreds of malformed sweep files and tables: exit code 2 and one message each, nothing started or written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import malformed
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shell import listing, scalesweep

from orchestrator.cli import main

SWEEPS = dict(malformed.sweeps())


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one message of a verb, run in this process."""
    before = listing(Path())
    code = main(arguments)
    said = capsys.readouterr()
    assert code == 2, said
    assert said.out == ""
    (message,) = said.err.splitlines()
    assert message.startswith("scalesweep: ")
    assert len(message) > len("scalesweep: ") + 10
    assert "secret@" not in message
    assert listing(Path()) == before
    return message


def test_there_are_two_hundred() -> None:
    assert len(SWEEPS) + len(malformed.TABLES) + len(malformed.OVERRIDES) >= 200


@pytest.mark.parametrize("name", SWEEPS)
def test_a_malformed_sweep_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("sweep.yaml").write_bytes(SWEEPS[name])
    refused(["run", "sweep.yaml"], capsys)


@pytest.mark.parametrize("override", malformed.OVERRIDES)
def test_a_malformed_override(override: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(["run", "laptop", "--set", override], capsys)


@pytest.mark.parametrize("name", malformed.TABLES)
def test_a_malformed_table(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs.csv").write_bytes(malformed.TABLES[name])
    refused(["fit", "runs.csv", "--out", "laws"], capsys)


@pytest.mark.parametrize("suffix", ["parquet", "csv.gz", "xlsx", "txt"])
def test_a_table_that_is_none(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(f"runs.{suffix}").write_bytes(b"PAR1 nothing of the kind")
    refused(["fit", f"runs.{suffix}", "--out", "laws"], capsys)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_as_a_sweep_file(content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("sweep.yaml").write_bytes(content)
    refused(["run", "sweep.yaml"], capsys)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(min_size=1).filter(lambda text: not text.isascii() or not text.replace("-", "").isalnum()))
def test_no_name_leads_out_of_the_run_folder(name: str) -> None:
    """Whatever names are allowed for sweeps and scales, they are one plain part of a path."""
    import tiny

    from search_spaces.errors import InputError

    for changes in ({"name": name}, {"ladder": [tiny.ladder(1)[0] | {"name": name}]}):
        try:
            sweep = tiny.sweep(**changes)
        except InputError:
            continue
        for given_name in (sweep.name, *(scale.name for scale in sweep.scales())):
            assert (Path("/runs") / given_name).resolve().parent == Path("/runs")
            assert given_name.isprintable()


@pytest.mark.parametrize("name", ["nothing", "a python object", "trials=0", "a deep nest"])
def test_the_same_by_the_installed_command(tmp_path: Path, name: str) -> None:
    (tmp_path / "sweep.yaml").write_bytes(SWEEPS[name])
    shown = scalesweep("run", "sweep.yaml", cwd=tmp_path)
    assert shown.returncode == 2, shown
    assert len(shown.stderr.splitlines()) == 1
    assert listing(tmp_path) == {"sweep.yaml"}
