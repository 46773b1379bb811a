"""A pseudo-random permutation of 0..count-1 that is computed number by number and stored nowhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_ROUNDS = 6  # four suffice for a Feistel network to look random (Luby and Rackoff 1988)

Numbers = npt.NDArray[np.uint64]


def permuted(numbers: Numbers, *, count: int, key: int) -> Numbers:
    """Where each number goes: one of count! orders, chosen by the key.

    A Feistel network over the next power of four, walked until the result lies below `count` (at most
    four times on average).
    """
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    keys = _mix(np.arange(_ROUNDS, dtype=np.uint64) + _mix(np.array([key], dtype=np.uint64)))
    result = _network(numbers, half, keys)
    outside = result >= count
    while outside.any():
        result[outside] = _network(result[outside], half, keys)
        outside = result >= count
    return result


def _network(numbers: Numbers, half: int, keys: Numbers) -> Numbers:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = numbers >> bits, numbers & mask
    for key in keys:
        left, right = right, left ^ (_mix(right + key) & mask)
    return (left << bits) | right


def _mix(numbers: Numbers) -> Numbers:
    """The finaliser of splitmix64 (Steele et al. 2014): each bit of the input moves half of the output's."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
