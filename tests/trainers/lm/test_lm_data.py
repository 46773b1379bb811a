"""Prepared tokens: split by document, mapped, in an order that depends on the sample's number alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.errors import InputError
from search_spaces.scale import ModelScale
from trainers.lm.data import PreparedData, TrainingStream, Windows
from trainers.lm.held_out import representative_order
from trainers.lm.options import LMOptions
from trainers.lm.permutation import permuted
from trainers.lm.prepare import find_prepared, prepare
from trainers.lm.trainer import LMTrainer


@given(count=st.integers(1, 3000), key=st.integers(0, 2**60))
def test_a_permutation_is_one(count, key) -> None:
    found = permuted(np.arange(count, dtype=np.uint64), count=count, key=key)
    assert sorted(found.tolist()) == list(range(count))


def test_permutations_of_neighbouring_keys_differ_and_look_random() -> None:
    count = 4096
    orders = [permuted(np.arange(count, dtype=np.uint64), count=count, key=key).astype(float) for key in range(4)]
    correlations = np.corrcoef([np.arange(count), *orders]) - np.eye(5)
    assert np.abs(correlations).max() < 5 / np.sqrt(count)
    assert sum(order[i] == i for order in orders for i in range(count)) < 20  # 4 expected


@given(first=st.integers(0, 500), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_the_stream_does_not_depend_on_the_batch_size(first, sizes, seed) -> None:
    stream = TrainingStream(Windows(np.arange(1001, dtype=np.uint16), 10), seed)
    together = stream.batch(first, sum(sizes))
    apart = [stream.batch(first + sum(sizes[:k]), size) for k, size in enumerate(sizes)]
    assert torch.equal(together, torch.cat(apart))


def test_an_epoch_has_every_window_once_and_the_next_another_order() -> None:
    stream = TrainingStream(Windows(np.arange(1001, dtype=np.uint16), 10), seed=5)
    first, second = stream.batch(0, 100), stream.batch(100, 100)
    assert sorted(first[:, 0].tolist()) == sorted(second[:, 0].tolist()) == list(range(0, 1000, 10))
    assert not torch.equal(first, second)
    assert torch.equal(first[:, 1:], first[:, :-1] + 1)
    assert not torch.equal(first, TrainingStream(Windows(np.arange(1001, dtype=np.uint16), 10), seed=6).batch(0, 100))


@pytest.fixture(scope="module")
def prepared(options) -> tuple[Path, PreparedData]:
    folder, manifest = prepare(LMOptions(**options))
    return folder, PreparedData(folder, manifest)


def documents_of(path: Path) -> set[bytes]:
    return {part for part in path.read_bytes().split(b"\0") if part}


def test_no_document_is_in_both_parts(prepared, options) -> None:
    folder, data = prepared
    written = {path.read_bytes() for path in Path(options["corpus"]).parent.glob("*.txt")}
    training = documents_of(folder / "train.bin")
    assert training < written
    assert len(training) == len(written) - data.manifest.validation_documents
    held_out = (folder / "validation.bin").read_bytes()
    assert len(held_out) == data.manifest.validation_tokens == 4096
    pieces = [piece for piece in held_out.split(b"\0") if len(piece) >= 20]
    assert len(pieces) >= 32
    assert not any(piece in text for piece in pieces for text in training)


def test_preparing_again_does_nothing_until_the_corpus_changes(tmp_path: Path, write_corpus) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    options = LMOptions(corpus=corpus, data_dir=tmp_path / "data", validation_tokens=2048)
    assert find_prepared(options) is None
    folder, manifest = prepare(options)
    written = (folder / "train.bin").stat().st_mtime_ns
    assert prepare(options) == (folder, manifest) == find_prepared(options)
    assert (folder / "train.bin").stat().st_mtime_ns == written
    before = LMTrainer(options.model_dump(mode="json", exclude_none=True)).version
    (tmp_path / "corpus" / "0000.txt").write_text("something else altogether")
    changed = prepare(options)
    assert changed[1].digest != manifest.digest
    assert LMTrainer(options.model_dump(mode="json", exclude_none=True)).version != before


def test_a_truncated_file_is_written_again(tmp_path: Path, write_corpus) -> None:
    options = LMOptions(corpus=write_corpus(tmp_path / "c"), data_dir=tmp_path / "data", validation_tokens=2048)
    folder, manifest = prepare(options)
    whole = (folder / "train.bin").read_bytes()
    (folder / "train.bin").write_bytes(whole[:100])
    assert find_prepared(options) is None
    assert prepare(options) == (folder, manifest)
    assert (folder / "train.bin").read_bytes() == whole
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [folder.name, "prepare.lock", "requests"]


def test_equal_corpora_give_equal_tokens_wherever_they_lie(tmp_path: Path, write_corpus) -> None:
    folders = [
        prepare(LMOptions(corpus=write_corpus(tmp_path / name), data_dir=tmp_path / f"{name}d", validation_tokens=2048))
        for name in ("here", "there")
    ]
    assert folders[0][1].digest == folders[1][1].digest
    assert (folders[0][0] / "train.bin").read_bytes() == (folders[1][0] / "train.bin").read_bytes()


def test_a_bpe_is_trained_alike_every_time_and_loses_nothing(tmp_path: Path, write_corpus) -> None:
    from tokenizers import Tokenizer

    corpus = write_corpus(tmp_path / "c")
    made = [
        prepare(LMOptions(corpus=corpus, data_dir=tmp_path / d, validation_tokens=512, tokenizer={"bpe": 300}))
        for d in ("one", "two")
    ]
    assert made[0][1] == made[1][1]
    folder, manifest = made[0]
    assert manifest.vocab_size == 300
    assert manifest.dtype == "uint16"
    tokens = np.fromfile(folder / "train.bin", dtype=np.uint16)
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    first = backend.decode(tokens[: int(np.argmax(tokens == 0))].tolist())
    assert first in {path.read_text() for path in (tmp_path / "c").glob("*.txt")}


def test_a_local_tokenizer(tmp_path: Path, write_corpus) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<end>": 0, "<unk>": 1, "loss": 2, "model": 3, "the": 4}
    backend = Tokenizer(models.WordLevel(words, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "words.json"))
    special = {"eos_token": "<end>"}
    PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "words.json"), **special).save_pretrained(tmp_path / "tok")
    corpus = write_corpus(tmp_path / "c")
    wanted = {"path": str(tmp_path / "tok")}
    _, manifest = prepare(LMOptions(corpus=corpus, data_dir=tmp_path / "d", validation_tokens=256, tokenizer=wanted))
    assert manifest.vocab_size == 5
    with pytest.raises(InputError, match="cannot be loaded"):
        prepare(
            LMOptions(
                corpus=corpus, data_dir=tmp_path / "d", validation_tokens=256, tokenizer={"path": str(tmp_path / "no")}
            )
        )


@pytest.mark.parametrize("text", ["", "short"])
def test_a_corpus_that_is_too_small(tmp_path: Path, text) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError, match="too small"):
        prepare(LMOptions(corpus=str(tmp_path / "a.txt"), data_dir=tmp_path / "d"))


def test_what_the_data_cannot_serve_is_refused(options) -> None:
    trainer = LMTrainer(options)
    said: list[str] = []

    def scale(**changes: int) -> ModelScale:
        sizes = {"depth": 1, "width": 8, "ffn_width": 16, "heads": 1, "vocab_size": 256, "sequence_length": 32}
        return ModelScale(name="s", **{**sizes, **changes})

    trainer.prepare([scale()], 50_000, said.append)
    assert any("documents" in line for line in said)
    with pytest.raises(InputError, match="vocab_size is 200"):
        trainer.prepare([scale(vocab_size=200)], 1000, said.append)
    with pytest.raises(InputError, match="validation_tokens"):
        trainer.prepare([scale(sequence_length=5000)], 5000, said.append)
    with pytest.raises(InputError, match="epochs: 5"):
        trainer.prepare([scale()], 250_000, said.append)
    LMTrainer({**options, "epochs": 5}).prepare([scale()], 250_000, said.append)


def test_the_held_out_order_has_every_sequence_once_and_fair_beginnings() -> None:
    """Sequences of easy and hard text mixed: any first few have both in their true shares."""
    chance = np.random.default_rng(0)
    training = np.concatenate([np.tile(np.arange(4), 5000), chance.integers(0, 64, 5000)])
    easy, hard = np.tile(np.arange(4), (75, 8)), chance.integers(0, 64, (25, 32))
    order = representative_order(np.concatenate([easy, hard]), training)
    assert sorted(order.tolist()) == list(range(100))
    for count in (8, 16, 32, 64):
        assert abs((order[:count] >= 75).mean() - 0.25) < 1.5 / count + 0.01
