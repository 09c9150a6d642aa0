"""How often each read comes in an epoch: exact for every class, anew in each epoch, one bit of memory a read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from metagene_classifier.store.bits import Bits
from metagene_classifier.store.permutation import keys_of, permuted
from metagene_classifier.store.selection import Selection

__all__ = ["EpochDraw", "Sampling", "draw_epoch", "epoch_targets"]

Sampling = Literal["natural", "balanced", "sqrt"] | int
"""How many reads of each class an epoch has: as many as there are; as many of every class; in proportion to the square
root of the class's reads; or at most the number given."""

ROOT_BITS = 40  # after the binary point of a square root: integers add up to the same on every machine
EPOCH = 2  # sets an epoch's draw apart from other uses of the seed


def epoch_targets(reads: npt.NDArray[np.int64], sampling: Sampling) -> npt.NDArray[np.int64]:
    """Reads of each class in an epoch; ``(classes,)``.

    ``balanced`` and ``sqrt`` add up to as many reads as there are, with at least one of every class that has any; what
    does not divide goes to the largest remainders, and among equals to the first classes.

    Args:
        reads: of each class; ``(classes,)``.
        sampling: see :data:`Sampling`.
    """
    if sampling == "natural":
        return reads.copy()
    if isinstance(sampling, int):
        return np.minimum(reads, sampling)
    counts = reads.tolist()
    weights = [_root(count) if sampling == "sqrt" else int(count > 0) for count in counts]
    total, weight = sum(counts), max(sum(weights), 1)
    shares = [divmod(total * each, weight) for each in weights]
    targets = np.array([whole for whole, _ in shares], np.int64)
    by_remainder = sorted(range(len(counts)), key=lambda index: (-shares[index][1], index))
    targets[by_remainder[: total - int(targets.sum())]] += 1
    return targets


def _root(count: int) -> int:
    return math.isqrt(count << (2 * ROOT_BITS))


@dataclass(frozen=True)
class EpochDraw:
    """How often each read of a selection comes in one epoch.

    Attributes:
        selection: that is drawn from.
        times: how often every read of a class comes at least; ``(classes,)``. ``None``: each comes once.
        extra: the reads that come once more; ``None`` for none.
    """

    selection: Selection
    times: npt.NDArray[np.int64] | None
    extra: Bits | None

    def multiplicity(self, first: int, end: int) -> npt.NDArray[np.int64]:
        """How often each of the store's reads ``first`` to ``end - 1`` comes; ``(end - first,)``."""
        mask = self.selection.mask(first, end)
        if self.times is None:
            return mask.astype(np.int64)
        times = np.where(mask, self.times[self.selection.store.columns(first, end).classes], 0)
        return times if self.extra is None else times + self.extra.part(first, end)


def draw_epoch(selection: Selection, targets: npt.NDArray[np.int64], *, seed: int, epoch: int) -> EpochDraw:
    """Draw an epoch's reads: every read of a class equally often, but for the remainder, which is drawn at random.

    Where a class has fewer reads in the epoch than in the selection none comes twice. The store is scanned once unless
    no class leaves a remainder.

    Args:
        selection: to draw from.
        targets: reads of each class in an epoch, from :func:`epoch_targets`; ``(classes,)``.
        seed: of the run.
        epoch: its number.
    """
    reads = selection.reads_per_class
    if np.array_equal(targets, reads):
        return EpochDraw(selection, None, None)
    times, remainders = np.divmod(targets, np.maximum(reads, 1))
    extra = _remainders(selection, remainders, seed, epoch) if remainders.any() else None
    return EpochDraw(selection, times, extra)


def _remainders(selection: Selection, remainders: npt.NDArray[np.int64], seed: int, epoch: int) -> Bits:
    store = selection.store
    sizes, wanted = selection.reads_per_class.astype(np.uint64), remainders.astype(np.uint64)
    keys = keys_of(len(sizes), seed, EPOCH, epoch)
    before = np.zeros(len(sizes), np.int64)

    def chunk(first: int, end: int) -> npt.NDArray[np.bool_]:
        mask, classes = selection.mask(first, end), store.columns(first, end).classes
        asked = np.flatnonzero(mask & (remainders[classes] > 0))
        of_class = classes[asked]
        ranks, counts = _ranks_in_class(of_class, len(sizes))
        places = permuted((ranks + before[of_class]).astype(np.uint64), sizes[of_class], keys[of_class])
        before[:] += counts
        extra = np.zeros(end - first, np.bool_)
        extra[asked] = places < wanted[of_class]
        return extra

    return Bits.filled(len(store), chunk)


def _ranks_in_class(classes: npt.NDArray[np.int32], count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many of the same class stand before each; and how many there are of each class."""
    counts = np.bincount(classes, minlength=count)
    narrow = classes.astype(np.uint16) if count <= 2**16 else classes  # NumPy sorts 16 bits by radix, far quicker
    by_class = np.argsort(narrow, kind="stable")
    ranks = np.empty(len(classes), np.int64)
    ranks[by_class] = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks, counts
