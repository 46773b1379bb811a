"""Tokenises a corpus once, into files that are mapped into memory, with a manifest."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from search_spaces.errors import InputError
from trainers.lm.corpus import Corpus, open_corpus
from trainers.lm.options import LMOptions
from trainers.lm.tokenizer import Tokenizer, Tokens, open_tokenizer

# Raised by hand when the files are written in another way.
_FORMAT = 1
# A document gives at most this part of the held-out set, so that one long file does not decide it; and
# the held-out documents are at most this part of the corpus. Both are guesses.
_DOCUMENT_PART = 1 / 64
_HELD_OUT_PART = 1 / 4
# A held-out text is this many bytes for each token wanted: above what subword tokenizers make of English.
_BYTES_PER_SUBWORD = 8


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What was prepared. Two manifests with equal `digest` hold the same tokens in the same order."""

    digest: str
    corpus: str
    corpus_digest: str
    tokenizer_digest: str
    vocab_size: int
    dtype: str
    documents: int
    validation_documents: int
    train_tokens: int
    validation_tokens: int

    @property
    def bytes_per_token(self) -> int:
        """Width of a stored token."""
        return int(np.dtype(self.dtype).itemsize)


def find_prepared(options: LMOptions) -> tuple[Path, Manifest] | None:
    """The folder and manifest of an earlier `prepare` with equal options, without reading the corpus."""
    request = _read_json(_request_file(options))
    return None if request is None else _open_folder(options.data_root / request["digest"])


def prepare(options: LMOptions) -> tuple[Path, Manifest]:
    """Tokenise the corpus, or find it done already and unchanged. Raises InputError where it does not do."""
    corpus = open_corpus(options)
    options.data_root.mkdir(parents=True, exist_ok=True)
    with _lock(options.data_root / "prepare.lock"):
        request = _read_json(_request_file(options))
        if request is not None and request["fingerprint"] == corpus.fingerprint:
            found = _open_folder(options.data_root / request["digest"])
            if found is not None:
                return found
        folder, manifest = _write(corpus, options)
        _write_json(_request_file(options), {"fingerprint": corpus.fingerprint, "digest": manifest.digest})
    return folder, manifest


def _request_file(options: LMOptions) -> Path:
    return options.data_root / "requests" / f"{options.data_request()}.json"


def _open_folder(folder: Path) -> tuple[Path, Manifest] | None:
    stored = _read_json(folder / "manifest.json")
    if stored is None:
        return None
    manifest = Manifest(**stored)
    sizes = {"train.bin": manifest.train_tokens, "validation.bin": manifest.validation_tokens}
    whole = all(
        (folder / name).is_file() and (folder / name).stat().st_size == tokens * manifest.bytes_per_token
        for name, tokens in sizes.items()
    )
    return (folder, manifest) if whole else None


def _write(corpus: Corpus, options: LMOptions) -> tuple[Path, Manifest]:
    lengths = {digest: len(text.encode()) for digest, text in corpus.documents()}
    held_out = _choose_held_out(lengths, options, corpus.name)
    training_texts = (text for digest, text in corpus.documents() if digest not in held_out)
    tokenizer = open_tokenizer(options, training_texts)
    temporary = Path(tempfile.mkdtemp(prefix="writing-", dir=options.data_root))
    try:
        manifest = _write_tokens(temporary, corpus, tokenizer, held_out, options.validation_tokens)
        folder = options.data_root / manifest.digest
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or it would have been found
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder, manifest


def _choose_held_out(lengths: dict[str, int], options: LMOptions, name: str) -> set[str]:
    """The documents with the smallest hashes, as many as the held-out set needs."""
    per_token = 1 if options.tokenizer == "bytes" else _BYTES_PER_SUBWORD
    wanted = options.validation_tokens * per_token
    cap = max(2, int(wanted * _DOCUMENT_PART))
    allowed = _HELD_OUT_PART * sum(lengths.values())
    chosen: set[str] = set()
    gathered, spent = 0, 0
    for digest in sorted(lengths):
        if gathered >= wanted:
            break
        chosen.add(digest)
        gathered += min(lengths[digest], cap)
        spent += lengths[digest]
    if gathered < wanted or spent > allowed:
        raise InputError(
            f"corpus {name!r} is too small: {len(lengths):,} documents with {sum(lengths.values()):,} bytes cannot "
            f"give {options.validation_tokens:,} held-out tokens from a quarter of them; "
            "give more text or lower validation_tokens"
        )
    return chosen


def _write_tokens(
    folder: Path, corpus: Corpus, tokenizer: Tokenizer, held_out: set[str], validation_tokens: int
) -> Manifest:
    dtype = np.dtype(np.uint8 if tokenizer.vocab_size <= 2**8 else np.uint16 if tokenizer.vocab_size <= 2**16 else "u4")
    cap = max(2, int(validation_tokens * _DOCUMENT_PART))
    content = hashlib.sha256()
    documents = 0
    pieces: dict[str, bytes] = {}
    with (folder / "train.bin").open("wb") as train:
        for digest, text in corpus.documents():
            documents += 1
            content.update(bytes.fromhex(digest))
            tokens: Tokens = tokenizer.encode(text).astype(dtype)
            if digest in held_out:
                pieces[digest] = _piece(tokens, cap, place=int(digest, 16)).tobytes()
            else:
                train.write(tokens.tobytes())
        _flush(train)
    with (folder / "validation.bin").open("wb") as validation:
        validation.write(b"".join(pieces[digest] for digest in sorted(pieces))[: validation_tokens * dtype.itemsize])
        _flush(validation)
    tokenizer.save(folder)
    identity = f"{_FORMAT}\0{content.hexdigest()}\0{tokenizer.digest}\0{validation_tokens}"
    manifest = Manifest(
        digest=hashlib.sha256(identity.encode()).hexdigest()[:16],
        corpus=corpus.name,
        corpus_digest=content.hexdigest()[:16],
        tokenizer_digest=tokenizer.digest,
        vocab_size=tokenizer.vocab_size,
        dtype=dtype.name,
        documents=documents,
        validation_documents=len(pieces),
        train_tokens=(folder / "train.bin").stat().st_size // dtype.itemsize,
        validation_tokens=(folder / "validation.bin").stat().st_size // dtype.itemsize,
    )
    _write_json(folder / "manifest.json", asdict(manifest))
    return manifest


def _piece(tokens: Tokens, length: int, place: int) -> Tokens:
    """At most so many tokens of a document, from any place in it, with its separator behind them."""
    start = place % max(1, len(tokens) - length + 1)
    return np.append(tokens[:-1][start : start + length - 1], tokens[-1:])


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process prepares at a time; a dead one holds nothing."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stored if isinstance(stored, dict) else None


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    temporary.replace(path)
