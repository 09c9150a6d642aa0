"""Which reads of a store a run takes: a side of the split, and so many of it. Reads keep their numbers in the store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from metagene_classifier.store.bits import CHUNK_READS, Bits
from metagene_classifier.store.permutation import keys_of, permuted
from metagene_classifier.store.scatter import scatter
from metagene_classifier.store.tokens import TokenStore

__all__ = ["Selection", "Side"]

Side = Literal["all", "kept", "held_out"]
DRAW = 1  # sets the draw of max_reads apart from other uses of the seed


@dataclass(frozen=True)
class Selection:
    """Reads of a store; one bit of memory for each read there, and none when all are taken.

    Attributes:
        store: that they are in.
        bits: which they are; ``None`` for all.
        reads_per_class: ``(classes,)``.
        total_tokens: of all its reads, special tokens not counted.
        longest: tokens of its longest read; 0 when it has none.
    """

    store: TokenStore
    bits: Bits | None
    reads_per_class: npt.NDArray[np.int64]
    total_tokens: int
    longest: int

    @classmethod
    def of(
        cls,
        store: TokenStore,
        *,
        side: Side = "all",
        fraction: float = 0.0,
        seed: int = 0,
        max_reads: int | None = None,
    ) -> Selection:
        """Choose reads. The store is scanned once, in chunks; not at all when every read is taken.

        Args:
            store: to choose from.
            side: ``held_out`` takes about ``fraction`` of the reads, ``kept`` the others. The side of a read depends
                on its group and the seed alone, so mates are on one side, whatever other reads there are.
            fraction: held out.
            seed: of the split and of the draw.
            max_reads: take exactly so many of the side's reads, drawn once and for all; all when there are fewer.
        """
        bits = None if side == "all" else _side(store, side == "held_out", fraction, seed)
        count = len(store) if bits is None else bits.total()
        if max_reads is not None and max_reads < count:
            bits = _drawn(len(store), bits, count, max_reads, seed)
            count = max_reads
        if bits is None or count == len(store):
            return cls(store, None, store.reads_per_class, store.total_tokens, store.longest)
        return cls(store, bits, *_measured(store, bits))

    def __len__(self) -> int:
        return int(self.reads_per_class.sum())

    def mask(self, first: int, end: int) -> npt.NDArray[np.bool_]:
        """Whether each of the store's reads ``first`` to ``end - 1`` is taken; ``(end - first,)``."""
        return np.ones(end - first, np.bool_) if self.bits is None else self.bits.part(first, end)

    def numbers(self) -> npt.NDArray[np.int64]:
        """The numbers of all its reads, in the order of the store: eight bytes a read."""
        if self.bits is None:
            return np.arange(len(self.store))
        numbers = np.empty(len(self), np.int64)
        done = 0
        for first in range(0, len(self.store), CHUNK_READS):
            part = np.flatnonzero(self.mask(first, min(first + CHUNK_READS, len(self.store))))
            numbers[done : done + len(part)] = part + first
            done += len(part)
        return numbers

    def fingerprint(self) -> str:
        """The same for the same reads of the same store; SHA-256 in hexadecimal."""
        digest = hashlib.sha256(self.store.fingerprint().encode())
        if self.bits is not None:
            digest.update(self.bits.packed.data)
        return digest.hexdigest()


def _side(store: TokenStore, held_out: bool, fraction: float, seed: int) -> Bits:
    threshold = np.uint64(int(fraction * float(2**64 - 2**11)))

    def chunk(first: int, end: int) -> npt.NDArray[np.bool_]:
        below = scatter(store.columns(first, end).groups ^ np.uint64(seed)) < threshold
        return below if held_out else ~below

    return Bits.filled(len(store), chunk)


def _drawn(reads: int, among: Bits | None, count: int, wanted: int, seed: int) -> Bits:
    """``wanted`` of the ``count`` reads that ``among`` names: those that a permutation brings to the front."""
    key, size = keys_of(1, seed, DRAW), np.array([count], np.uint64)
    before = 0

    def chunk(first: int, end: int) -> npt.NDArray[np.bool_]:
        nonlocal before
        mask = np.ones(end - first, np.bool_) if among is None else among.part(first, end).copy()
        rank = np.arange(before, before + int(mask.sum()), dtype=np.uint64)
        mask[mask] = permuted(rank, size, key) < np.uint64(wanted)
        before += len(rank)
        return mask

    return Bits.filled(reads, chunk)


def _measured(store: TokenStore, bits: Bits) -> tuple[npt.NDArray[np.int64], int, int]:
    """Reads of each class, tokens in all, and those of the longest read."""
    counts = np.zeros(len(store.labels), np.int64)
    tokens = longest = 0
    for first in range(0, len(store), CHUNK_READS):
        end = min(first + CHUNK_READS, len(store))
        mask, columns = bits.part(first, end), store.columns(first, end)
        counts += np.bincount(columns.classes[mask], minlength=len(counts))
        lengths = columns.lengths[mask]
        tokens += int(lengths.sum())
        longest = max(longest, int(lengths.max(initial=0)))
    return counts, tokens, longest
