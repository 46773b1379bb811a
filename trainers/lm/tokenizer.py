"""Text to token numbers: bytes, a BPE trained on the corpus, or somebody's tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from search_spaces.errors import InputError
from trainers.lm.options import BpeTokenizer, LMOptions, PathTokenizer

Tokens = npt.NDArray[np.integer]
SEPARATOR = "<|endoftext|>"  # of documents, in a BPE trained here


class Tokenizer(Protocol):
    """Turns documents into tokens. `digest` is equal for tokenizers that do the same."""

    vocab_size: int
    digest: str

    def encode(self, text: str) -> Tokens:
        """The document's tokens, with the separator behind them."""

    def save(self, folder: Path) -> None:
        """Write what people need to decode the tokens."""


class Bytes:
    """A token is a byte of UTF-8. Byte 0 separates documents and is dropped from text: 256 tokens in all."""

    vocab_size = 256
    digest = "bytes"

    def encode(self, text: str) -> Tokens:
        """The document's bytes without zeros, and a zero."""
        return np.frombuffer(text.replace("\0", "").encode() + b"\0", dtype=np.uint8)

    def save(self, folder: Path) -> None:
        """Nothing: bytes need no table."""


class Subwords:
    """A tokenizer of the `tokenizers` library, given as its JSON, and the number of its separator."""

    def __init__(self, serialised: str, separator: int) -> None:
        from tokenizers import Tokenizer as Backend

        self._backend = Backend.from_str(serialised)
        self._serialised = serialised
        self._separator = separator
        self.vocab_size = int(self._backend.get_vocab_size(with_added_tokens=True))
        self.digest = hashlib.sha256(f"{separator}\0{serialised}".encode()).hexdigest()[:16]

    def encode(self, text: str) -> Tokens:
        """The document's tokens without special ones, and the separator."""
        numbers = self._backend.encode(text, add_special_tokens=False).ids
        return np.array([*numbers, self._separator], dtype=np.uint32)

    def save(self, folder: Path) -> None:
        """Write tokenizer.json."""
        (folder / "tokenizer.json").write_text(self._serialised, encoding="utf-8")


def open_tokenizer(options: LMOptions, texts: Iterator[str]) -> Tokenizer:
    """The tokenizer that the options name; a BPE is trained on the texts. Raises InputError."""
    wanted = options.tokenizer
    if isinstance(wanted, BpeTokenizer):
        return _train_bpe(wanted.bpe, texts)
    if isinstance(wanted, PathTokenizer):
        return _load(wanted.path)
    return Bytes()


def _train_bpe(vocab_size: int, texts: Iterator[str]) -> Tokenizer:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return Subwords(backend.to_str(), separator=0)  # special tokens come first


def _load(path: str) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise InputError(f"tokenizer {path!r} cannot be loaded: {error}") from error
    if loaded.eos_token_id is None or getattr(loaded, "backend_tokenizer", None) is None:
        raise InputError(f"tokenizer {path!r} needs a tokenizer.json and an end-of-text token to separate documents")
    return Subwords(loaded.backend_tokenizer.to_str(), int(loaded.eos_token_id))
