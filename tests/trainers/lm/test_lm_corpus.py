"""Documents: from every kind of source, in one order, each once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search_spaces.errors import InputError
from trainers.lm.corpus import Corpus, open_corpus
from trainers.lm.options import LMOptions


def corpus_of(corpus: object, text_field: str = "text") -> Corpus:
    return open_corpus(LMOptions(corpus=corpus, text_field=text_field))


def texts(corpus: object, text_field: str = "text") -> list[str]:
    return [text for _, text in corpus_of(corpus, text_field).documents()]


def test_files_come_sorted_and_each_text_once(tmp_path: Path) -> None:
    for name, text in {"b.txt": "bee", "a.txt": "ay", "c.txt": "bee", "empty.txt": "", "sub/d.txt": "dee"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert texts(str(tmp_path)) == ["ay", "bee", "dee"]
    assert texts(str(tmp_path / "*.txt")) == ["ay", "bee"]
    assert texts([str(tmp_path / "b.txt"), str(tmp_path / "a.txt")]) == ["ay", "bee"]
    assert texts(str(tmp_path / "**" / "*.txt")) == ["ay", "bee", "dee"]


def test_jsonl_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"body": "one"}\n\n{"body": "two"}\n')
    pq.write_table(pa.table({"body": ["three", "one"], "other": [1, 2]}), tmp_path / "y.parquet")
    assert texts(str(tmp_path / "*"), text_field="body") == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"text": "fine"}\n{"text": 3}\n', "line 2.*int"),
        ("x.jsonl", b'{"body": "fine"}\n', "line 1.*text_field"),
        ("x.jsonl", b"not json\n", "line 1"),
        ("x.txt", b"\xff\xfe\xff", "UTF-8"),
        ("x.parquet", b"no parquet", "not a Parquet file"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, name, content, message) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        texts(str(tmp_path / name))
    assert name in str(error.value)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["three"]}), tmp_path / "y.parquet")
    with pytest.raises(InputError, match=r"no column 'text' but \['body'\]"):
        texts(str(tmp_path / "y.parquet"))


def test_no_such_file() -> None:
    with pytest.raises(InputError, match=r"no such file.*python-stdlib"):
        corpus_of("nowhere/*.txt")


def test_the_fingerprint_sees_a_change_without_reading(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ay")
    before = corpus_of(str(tmp_path)).fingerprint
    assert corpus_of(str(tmp_path)).fingerprint == before
    (tmp_path / "a.txt").write_text("bee")
    assert corpus_of(str(tmp_path)).fingerprint != before


def test_the_standard_library_without_its_tests() -> None:
    corpus = corpus_of("python-stdlib")
    found = list(corpus.documents())
    size = sum(len(text) for _, text in found)
    assert 5_000_000 < size < 20_000_000
    assert len({digest for digest, _ in found}) == len(found)
    assert any("class JSONEncoder" in text for _, text in found)
    assert not any("class EditorWindow" in text for _, text in found)  # idlelib


def test_what_is_installed_has_over_a_hundred_megabytes() -> None:
    """By the sizes of its files: reading all takes longer than a test should."""
    from trainers.lm.corpus import _installed_files

    files = [path for path in _installed_files() if path.exists()]
    assert sum(path.stat().st_size for path in files) > 100e6
    assert any("torch" in path.parts for path in files)
    assert not any("_pytest" in path.parts for path in files)  # of the developers' extra, not of the project


def test_a_hub_data_set_from_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    folder = tmp_path / "set"
    folder.mkdir()
    with (folder / "train.jsonl").open("w") as lines:
        lines.writelines(json.dumps({"content": text}) + "\n" for text in ("one", "two", "one"))
    wanted = {"hub": str(folder), "split": "train", "column": "content"}
    assert texts(wanted) == ["one", "two"]
    with pytest.raises(InputError, match="no column 'text'"):
        corpus_of({"hub": str(folder)})
    with pytest.raises(InputError, match="cannot be loaded"):
        corpus_of({"hub": str(folder), "split": "nosuch"})
    shutil.rmtree(folder)
