"""An order of the held-out sequences in which any first few stand for all of them.

Sequences differ in difficulty by a standard deviation of half a nat per token, and models agree about
it: a bigram table's loss correlates with a transformer's by 0.90 to 0.96 (measured on python-stdlib, 20
thousand to 400 thousand tokens of training). So the sequences are sorted by the bigram's loss, and taken
from all over that order at even distances. Against a random order this makes the error of the mean over
the first 64 sequences 2.5 times smaller.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.integer]

# Training tokens that the table is counted on, and cells of the table; larger vocabularies share cells.
_COUNTED_TOKENS = 4_000_000
_CELLS = 2**20
# Counts that the unigram is worth in the bigram's estimate. A guess.
_PRIOR = 5.0
_GOLDEN = (5**0.5 - 1) / 2  # multiples of it, modulo 1, fill the unit interval most evenly


def representative_order(sequences: Tokens, training_tokens: Tokens) -> npt.NDArray[np.int64]:
    """The row numbers of `sequences` (rows of tokens), each once."""
    difficulty = _bigram_loss(sequences.astype(np.int64), training_tokens[:_COUNTED_TOKENS].astype(np.int64))
    # Rounded, so that another processor's logarithm does not change the order.
    by_difficulty = np.argsort(np.round(difficulty, 6), kind="stable")
    places = (0.5 + np.arange(len(sequences)) * _GOLDEN) % 1.0
    return by_difficulty[np.argsort(np.argsort(places, kind="stable"), kind="stable")]


def _bigram_loss(sequences: npt.NDArray[np.int64], counted: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Mean loss of each row, nats per token."""
    vocabulary = int(max(sequences.max(), counted.max())) + 1
    unigram = np.bincount(counted, minlength=vocabulary)
    bigram = np.bincount(_cell(counted[:-1], counted[1:], vocabulary), minlength=_CELLS)
    before, after = sequences[:, :-1], sequences[:, 1:]
    rare = (unigram[after] + 1) / (unigram.sum() + vocabulary)
    likely = (bigram[_cell(before, after, vocabulary)] + _PRIOR * rare) / (unigram[before] + _PRIOR)
    loss: npt.NDArray[np.float64] = -np.log(likely).mean(axis=1)
    return loss


def _cell(before: npt.NDArray[np.int64], after: npt.NDArray[np.int64], vocabulary: int) -> npt.NDArray[np.int64]:
    return (before * vocabulary + after) % _CELLS
