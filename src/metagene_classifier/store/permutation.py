"""Permutations that need no memory: where a number goes is computed from it and a key."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metagene_classifier.store.scatter import GOLDEN, scatter

__all__ = ["keys_of", "permuted"]

ROUNDS = 6
LEAST_BITS = 8  # so few rounds mix halves of one or two bits badly
PIECE = 2**15  # numbers worked on at once: what stays in a core's cache


def keys_of(count: int, *numbers: int) -> npt.NDArray[np.uint64]:
    """Keys that are a function of ``numbers`` alone (seed, epoch, and the like); ``(count,)``."""
    base = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return scatter(base + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN)


def permuted(
    values: npt.NDArray[np.uint64], sizes: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """Where each value goes in the permutation of ``range(size)`` that its key chooses.

    A Feistel network over the bits that ``size`` needs, walked on while it leads out of the range
    (Black and Rogaway, doi 10.1007/3-540-45760-7_9).

    Args:
        values: each below its size; ``(n,)``.
        sizes: of each value's permutation; ``(n,)`` or ``(1,)``.
        keys: of each value's permutation; ``(n,)`` or ``(1,)``.

    Returns:
        ``(n,)`` uint64, each below its size. Values of one size and one key go to different places.
    """
    sizes, keys = np.broadcast_to(sizes, values.shape), np.broadcast_to(keys, values.shape)
    places = np.empty_like(values)
    for first in range(0, len(values), PIECE):
        piece = slice(first, first + PIECE)
        places[piece] = _walked(values[piece], sizes[piece], keys[piece])
    return places


def _walked(
    values: npt.NDArray[np.uint64], sizes: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    places = _enciphered(values, sizes, keys)
    outside = np.flatnonzero(places >= sizes)
    while len(outside):
        places[outside] = _enciphered(places[outside], sizes[outside], keys[outside])
        outside = outside[places[outside] >= sizes[outside]]
    return places


def _enciphered(
    values: npt.NDArray[np.uint64], sizes: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """Halves of unlike widths take turns, so that an odd number of bits is held as tightly as an even one."""
    one = np.uint64(1)
    bits = np.maximum(np.frexp((sizes - one).astype(np.float64))[1], LEAST_BITS).astype(np.uint64)
    right_bits = bits >> one
    left_bits = bits - right_bits
    left_mask, right_mask = (one << left_bits) - one, (one << right_bits) - one
    left, right = values >> right_bits, values & right_mask
    for added in GOLDEN * np.arange(1, ROUNDS + 1, dtype=np.uint64):
        mixed = scatter(right ^ (keys + added))
        left, right = right, (left ^ mixed) & left_mask
        left_mask, right_mask = right_mask, left_mask
    places: npt.NDArray[np.uint64] = (left << right_bits) | right
    return places
