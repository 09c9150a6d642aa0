"""The order of an epoch: a function of (seed, epoch) alone, cut into optimizer steps.

So a run that was stopped knows from two numbers which reads are still to come, on any number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from metagene_classifier.store.bits import CHUNK_READS
from metagene_classifier.store.sampling import EpochDraw, Sampling, draw_epoch, epoch_targets
from metagene_classifier.store.selection import Selection

__all__ = ["EpochOrder", "ReadOrder", "Shuffle", "planned_steps", "steps_of_epoch", "steps_per_epoch"]

Shuffle = Literal["auto", "all", "blocks"]

LARGEST_FOR_ALL_BYTES = 4 * 2**30
"""Of a store's tokens, above which ``auto`` shuffles in blocks: reads from all over it must stay in memory."""
BLOCK_READS = 256
"""Consecutive reads of the store that stay together until they are in a buffer: about 20 KB of tokens for short reads,
which is one read from a disk."""


class EpochOrder(Protocol):
    """The reads of one epoch, in order."""

    def __len__(self) -> int:
        """Reads of the epoch, those that come twice counted twice."""

    def at(self, first: int, end: int) -> npt.NDArray[np.int64]:
        """Store numbers of the reads at places ``first`` to ``end - 1``, or to the last there is."""


class ReadOrder:
    """The order in which a run reads a selection, epoch after epoch.

    Attributes:
        selection: what is read.
        reads_per_class: in one epoch; ``(classes,)``.
        reads_per_epoch: their sum.
        shuffle: ``all`` or ``blocks``.
    """

    def __init__(
        self,
        selection: Selection,
        *,
        sampling: Sampling,
        shuffle: Shuffle,
        buffer: int,
        seed: int,
        block: int = BLOCK_READS,
    ) -> None:
        """Nothing is drawn yet.

        Args:
            selection: what is read.
            sampling: how many reads of each class an epoch has.
            shuffle: ``all``: any order is as likely as any other; 4 bytes a read of the epoch. ``blocks``: blocks of
                the store in random order, and the reads of ``buffer`` after ``buffer`` among one another. ``auto``
                goes by the store alone, since a resumed run must find the same order on another machine.
            buffer: reads shuffled among one another by ``blocks``.
            seed: of the run.
            block: reads of a block.
        """
        self.selection = selection
        self.reads_per_class = epoch_targets(selection.reads_per_class, sampling)
        self.reads_per_epoch = int(self.reads_per_class.sum())
        small = selection.store.token_bytes <= LARGEST_FOR_ALL_BYTES
        self.shuffle = ("all" if small else "blocks") if shuffle == "auto" else shuffle
        self._buffer, self._seed, self._block = buffer, seed, block

    def epoch(self, epoch: int) -> EpochOrder:
        """The order of an epoch, a function of the seed and ``epoch``."""
        draw = draw_epoch(self.selection, self.reads_per_class, seed=self._seed, epoch=epoch)
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([self._seed, epoch])))
        if self.shuffle == "all":
            return _AllShuffled(_entries(draw, self.reads_per_epoch), generator)
        in_blocks = self._once_in_blocks if draw.times is None else _reads_in_blocks(draw, self._block)
        return _BlocksShuffled(
            draw,
            in_blocks,
            block=self._block,
            buffer=self._buffer,
            seeds=(self._seed, epoch),
            generator=generator,
        )

    @cached_property
    def _once_in_blocks(self) -> npt.NDArray[np.int64]:
        return _reads_in_blocks(EpochDraw(self.selection, None, None), self._block)


class _AllShuffled:
    def __init__(self, entries: npt.NDArray[Any], generator: np.random.Generator) -> None:
        generator.shuffle(entries)
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def at(self, first: int, end: int) -> npt.NDArray[np.int64]:
        return self._entries[first:end].astype(np.int64)


class _BlocksShuffled:
    """A block whose reads come often is dealt out as several parts of at most a block's reads, so that a small class
    that is repeated a thousand times is met throughout the epoch and not in one place of it.
    """

    def __init__(
        self,
        draw: EpochDraw,
        in_blocks: npt.NDArray[np.int64],
        *,
        block: int,
        buffer: int,
        seeds: tuple[int, int],
        generator: np.random.Generator,
    ) -> None:
        self._draw, self._block, self._seeds = draw, block, seeds
        parts_of = -(-in_blocks // block)
        order = generator.permutation(int(parts_of.sum()))
        narrow = np.uint32 if len(order) < 2**32 else np.int64
        first_part = np.cumsum(parts_of) - parts_of
        blocks = np.repeat(np.arange(len(in_blocks), dtype=narrow), parts_of)[order]
        number = (order - first_part[blocks]).astype(narrow)
        self._blocks, self._numbers, self._parts_of = blocks, number, parts_of.astype(narrow)
        sizes = -((number - in_blocks[blocks]) // parts_of[blocks])
        begins = np.cumsum(sizes) - sizes
        # A buffer begins with the first part that begins at a multiple of its size, or behind it.
        wanted = np.arange(0, int(in_blocks.sum()), buffer)
        self._buffers = np.unique(np.append(np.searchsorted(begins, wanted), len(order)))
        ends = np.append(begins, int(in_blocks.sum()))
        self._begins = ends[self._buffers]
        self._last: tuple[int, npt.NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        return int(self._begins[-1])

    def at(self, first: int, end: int) -> npt.NDArray[np.int64]:
        end = min(end, len(self))
        found = [np.zeros(0, np.int64)]
        buffer = int(np.searchsorted(self._begins, first, side="right")) - 1
        while first < end:
            start = int(self._begins[buffer])
            part = self._shuffled(buffer)[first - start : end - start]
            found.append(part)
            first += len(part)
            buffer += 1
        return np.concatenate(found)

    def _shuffled(self, buffer: int) -> npt.NDArray[np.int64]:
        number, reads = self._last
        if number != buffer:
            parts = range(int(self._buffers[buffer]), int(self._buffers[buffer + 1]))
            reads = np.concatenate([self._part(part) for part in parts])
            seeds = np.random.SeedSequence([*self._seeds, buffer])
            np.random.Generator(np.random.Philox(seeds)).shuffle(reads)
            self._last = (buffer, reads)
        return reads

    def _part(self, part: int) -> npt.NDArray[np.int64]:
        block = int(self._blocks[part])
        first = block * self._block
        end = min(first + self._block, len(self._draw.selection.store))
        reads = _repeated(self._draw, first, end)
        return reads[int(self._numbers[part]) :: int(self._parts_of[block])]


def _repeated(draw: EpochDraw, first: int, end: int) -> npt.NDArray[np.int64]:
    """The reads ``first`` to ``end - 1`` of the store, each as often as it comes."""
    if draw.times is None:
        return np.flatnonzero(draw.selection.mask(first, end)) + first
    return np.repeat(np.arange(first, end), draw.multiplicity(first, end))


def _entries(draw: EpochDraw, count: int) -> npt.NDArray[Any]:
    """The reads of an epoch in the order of the store; ``(count,)``."""
    reads = len(draw.selection.store)
    entries = np.empty(count, np.uint32 if reads <= 2**32 else np.int64)
    done = 0
    for first in range(0, reads, CHUNK_READS):
        part = _repeated(draw, first, min(first + CHUNK_READS, reads))
        entries[done : done + len(part)] = part
        done += len(part)
    return entries


def _reads_in_blocks(draw: EpochDraw, block: int) -> npt.NDArray[np.int64]:
    """How many reads each block of the store has in the epoch; ``(blocks,)``."""
    reads = len(draw.selection.store)
    chunk = max(CHUNK_READS // block, 1) * block
    sums = [np.zeros(0, np.int64)]
    for first in range(0, reads, chunk):
        times = draw.multiplicity(first, min(first + chunk, reads))
        sums.append(np.add.reduceat(times, np.arange(0, len(times), block)))
    return np.concatenate(sums)


def steps_per_epoch(reads: int, reads_per_step: int) -> int:
    """Optimizer steps of an epoch; the last one may cover fewer reads."""
    return math.ceil(reads / reads_per_step)


def planned_steps(reads: int, reads_per_step: int, max_epochs: int, max_steps: int | None) -> int:
    """Optimizer steps of a whole run; ``max_steps`` may end it earlier."""
    steps = steps_per_epoch(reads, reads_per_step) * max_epochs
    return min(steps, max_steps) if max_steps is not None else steps


def steps_of_epoch(order: EpochOrder, reads_per_step: int, reads_done: int = 0) -> Iterator[npt.NDArray[np.int64]]:
    """The reads of each optimizer step over all ranks, those already done left out; ``(reads_per_step,)``."""
    for first in range(reads_done, len(order), reads_per_step):
        yield order.at(first, first + reads_per_step)
