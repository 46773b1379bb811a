"""Batches from prepared tokens: which sequence a sample is depends on the seed and its number alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from search_spaces.errors import InputError
from search_spaces.scale import ModelScale
from trainers.lm.held_out import representative_order
from trainers.lm.permutation import permuted
from trainers.lm.prepare import Manifest

Stored = npt.NDArray[np.integer]
# Epochs that have keys of their own; a small model gains nothing long before (Muennighoff et al. 2023).
_MAX_EPOCHS = 2**20


class Windows:
    """Neighbouring windows of a token file: `sequence_length` inputs and, one token later, as many targets."""

    def __init__(self, tokens: Stored, sequence_length: int) -> None:
        self._tokens = tokens
        self._length = sequence_length
        self._offsets = np.arange(sequence_length + 1)

    def __len__(self) -> int:
        return max(0, (len(self._tokens) - 1) // self._length)

    def at(self, windows: npt.NDArray[np.int64]) -> torch.Tensor:
        """The numbered windows: (windows, sequence_length + 1) int64."""
        return torch.from_numpy(self._tokens[windows[:, None] * self._length + self._offsets].astype(np.int64))


class TrainingStream:
    """Samples 0, 1, 2, ...: all windows in a seeded order, then all again in another one."""

    def __init__(self, windows: Windows, seed: int) -> None:
        self._windows = windows
        self._seed = seed

    def batch(self, first: int, count: int) -> torch.Tensor:
        """Samples first..first+count-1: (count, sequence_length + 1) int64."""
        samples = np.arange(first, first + count, dtype=np.uint64)
        epochs, places = np.divmod(samples, np.uint64(len(self._windows)))
        for epoch in np.unique(epochs):
            mine = epochs == epoch
            key = self._seed * _MAX_EPOCHS + int(epoch)
            places[mine] = permuted(places[mine], count=len(self._windows), key=key)
        return self._windows.at(places.astype(np.int64))


class HeldOut:
    """The held-out sequences, in one order for all trials, of which any first few stand for all."""

    def __init__(self, windows: Windows, order: npt.NDArray[np.int64]) -> None:
        self._windows = windows
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def batch(self, first: int, count: int) -> torch.Tensor:
        """Sequences first..first+count-1, fewer at the end: (count, sequence_length + 1) int64."""
        return self._windows.at(self._order[first : first + count])


class PreparedData:
    """The two token files of a prepared folder, mapped into memory."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self._train: Stored = np.memmap(folder / "train.bin", dtype=manifest.dtype, mode="r")
        self._held_out: dict[int, HeldOut] = {}
        self._validation: Stored = np.memmap(folder / "validation.bin", dtype=manifest.dtype, mode="r")

    def epoch_tokens(self, sequence_length: int) -> int:
        """Training tokens of one epoch: whole windows."""
        return len(Windows(self._train, sequence_length)) * sequence_length

    def stream(self, sequence_length: int, seed: int) -> TrainingStream:
        """The training stream of a seed."""
        return TrainingStream(Windows(self._train, sequence_length), seed)

    def held_out(self, sequence_length: int) -> HeldOut:
        """The held-out set."""
        if sequence_length not in self._held_out:  # ordering takes longer than a small trial can spare
            windows = Windows(self._validation, sequence_length)
            everything = windows.at(np.arange(len(windows))).numpy()
            self._held_out[sequence_length] = HeldOut(windows, representative_order(everything, self._train))
        return self._held_out[sequence_length]

    def check(self, scale: ModelScale, tokens: int, epochs: int) -> None:
        """Raises InputError where a scale cannot be trained on this for so many tokens."""
        manifest = self.manifest
        if scale.vocab_size < manifest.vocab_size:
            raise InputError(
                f"scale {scale.name!r}: vocab_size is {scale.vocab_size:,} and the tokenizer has "
                f"{manifest.vocab_size:,} tokens; set vocab_size to {manifest.vocab_size:,}"
            )
        if not len(Windows(self._validation, scale.sequence_length)):
            raise InputError(
                f"scale {scale.name!r}: a sequence of {scale.sequence_length:,} is longer than the held-out set of "
                f"{manifest.validation_tokens:,} tokens; raise validation_tokens"
            )
        available = self.epoch_tokens(scale.sequence_length)
        if tokens > available * epochs:
            raise InputError(
                f"scale {scale.name!r}: {tokens:,} tokens are wanted and corpus {manifest.corpus!r} has {available:,}; "
                f"give a larger corpus, a shorter horizon, or epochs: {-(-tokens // max(1, available))}"
            )
