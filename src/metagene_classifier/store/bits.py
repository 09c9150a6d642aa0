"""A yes or no for each read of a store, in one bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["CHUNK_READS", "Bits"]

CHUNK_READS = 2**18
"""Reads looked at in one go where a store is scanned: a few megabytes. A multiple of 8."""


class Bits:
    """``count`` bits, filled from the front in whole chunks.

    Attributes:
        packed: eight bits a byte, the first the lowest.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.packed = np.zeros(-(-count // 8), np.uint8)

    @classmethod
    def filled(cls, count: int, chunk: Callable[[int, int], npt.NDArray[np.bool_]]) -> Bits:
        """Bits as ``chunk(first, end)`` gives them, asked for from front to back."""
        bits = cls(count)
        for first in range(0, count, CHUNK_READS):
            end = min(first + CHUNK_READS, count)
            bits.packed[first // 8 : -(-end // 8)] = np.packbits(chunk(first, end), bitorder="little")
        return bits

    def part(self, first: int, end: int) -> npt.NDArray[np.bool_]:
        """Bits ``first`` to ``end - 1``."""
        unpacked = np.unpackbits(self.packed[first // 8 : -(-end // 8)], bitorder="little")
        return unpacked[first % 8 : first % 8 + end - first].view(np.bool_)

    def total(self) -> int:
        """How many are set."""
        return int(np.bitwise_count(self.packed).sum(dtype=np.int64))
