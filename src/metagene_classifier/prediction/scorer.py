"""A stream of reads through a model, in fixed blocks, so that memory stays the same however long the stream is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.batching.batch import TokenBatch
from metagene_classifier.batching.framing import Framing
from metagene_classifier.batching.micro_batches import Layout
from metagene_classifier.errors import DataError
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.model.scoring import score_reads
from metagene_classifier.reads.blocks import in_blocks
from metagene_classifier.reads.cleaning import CleaningCounts, clean_sequence
from metagene_classifier.reads.read import Read
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = ["LongReads", "ScoredBlock", "Scorer", "StreamReport"]

READS_PER_BLOCK = 4096
LongReads = Literal["window", "truncate", "error"]


@dataclass
class StreamReport:
    """What was noticed while reads went by."""

    reads: int = 0
    empty: int = 0
    truncated: int = 0
    windowed: int = 0
    cleaning: CleaningCounts = field(default_factory=CleaningCounts)

    def lines(self) -> list[str]:
        """A line for each thing that a user should know."""
        told = [self.cleaning.summary()]
        if self.empty:
            told.append(f"{self.empty:,} reads without a base")
        if self.truncated:
            told.append(f"{self.truncated:,} reads cut to the model's context (long reads: truncate)")
        if self.windowed:
            told.append(f"{self.windowed:,} reads longer than the model's context, scored by windows")
        return [line for line in told if line]


@dataclass(frozen=True)
class ScoredBlock:
    """Reads of a stream, in order, with the model's values.

    Attributes:
        reads: as they stand in the file.
        bases: of each read after cleaning, 0 where none is known (nothing, or N alone); ``(reads,)``.
        values: ``(reads, width)`` float32; zeros for a read without a base.
    """

    reads: list[Read]
    bases: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scorer:
    """A model as a function of reads.

    Attributes:
        run: a batch to ``(segments, width)``.
        width: values of a read: classes, or the encoder's hidden size.
        tokenizer: the encoder's.
        framing: how tokens become segments.
        layout: how segments lie in a micro-batch.
        budget: tokens of a micro-batch.
        device: the encoder's.
        long_reads: what happens to reads that do not fit one segment.
    """

    run: Callable[[TokenBatch], torch.Tensor]
    width: int
    tokenizer: ReadTokenizer
    framing: Framing
    layout: Layout
    budget: TokenBudget
    device: torch.device
    long_reads: LongReads

    def stream(self, reads: Iterable[Read], report: StreamReport) -> Iterator[ScoredBlock]:
        """Score reads block by block. When the reads raise, those before are scored and yielded first.

        Raises:
            DataError: a read is longer than the context and ``long_reads`` is ``error``.
            DeviceMemoryError: a single read does not fit in the device's memory.
        """
        for block in in_blocks(reads, READS_PER_BLOCK):
            yield self._score(block, report)

    def _score(self, block: list[Read], report: StreamReport) -> ScoredBlock:
        cleaned = [clean_sequence(read.sequence) for read in block]
        for read, sequence in zip(block, cleaned, strict=True):
            report.cleaning.add(read.sequence, sequence)
        bases = np.fromiter((len(one) if one.strip("N") else 0 for one in cleaned), np.int64, len(cleaned))
        present = np.flatnonzero(bases)
        tokens = self.tokenizer.encode_batch([cleaned[place] for place in present])
        for place, ids in enumerate(tokens):
            if len(ids) > self.framing.capacity:
                tokens[place] = self._long(block[present[place]], ids, report)
        report.reads += len(block)
        report.empty += len(block) - len(present)
        values = np.zeros((len(block), self.width), np.float32)
        if len(present):
            values[present] = score_reads(
                self.run,
                tokens,
                self.framing,
                width=self.width,
                budget=self.budget,
                layout=self.layout,
                device=self.device,
            )
        return ScoredBlock(block, bases, values)

    def _long(self, read: Read, ids: npt.NDArray[Any], report: StreamReport) -> npt.NDArray[Any]:
        if self.long_reads == "error":
            raise DataError(
                f"read {read.id} has {len(ids)} tokens and {self.framing.capacity} fit: "
                "shorten it, or use --long-reads window or truncate"
            )
        if self.long_reads == "truncate":
            report.truncated += 1
            return ids[: self.framing.capacity]
        report.windowed += 1
        return ids
