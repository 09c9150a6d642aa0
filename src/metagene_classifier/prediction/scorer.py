"""A stream of reads through a model, in fixed blocks, so that memory stays the same however long the stream is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.batching.batch import TokenBatch
from metagene_classifier.batching.framing import Framing
from metagene_classifier.batching.micro_batches import Layout
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.model.scoring import score_reads
from metagene_classifier.prediction.preparing import LongReads, PreparedBlock, Preparer
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.blocks import in_blocks
from metagene_classifier.reads.read import Read
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = ["READS_PER_BLOCK", "ScoredBlock", "Scorer"]

# No micro-batch holds reads of two blocks: so a block has the same scores whoever computes it, beside whichever others.
READS_PER_BLOCK = 4096


@dataclass(frozen=True)
class ScoredBlock:
    """Reads of a stream, in order, with the model's values.

    Attributes:
        reads: as they stand in the file.
        bases: of each read after cleaning, 0 where none is known (nothing, or N alone); ``(reads,)``.
        values: ``(reads, width)`` float32; zeros for a read without a base.
        noticed: of this block.
    """

    reads: list[Read]
    bases: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    noticed: StreamReport


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
        return self.stream_blocks(in_blocks(reads, READS_PER_BLOCK), report)

    def stream_blocks(self, blocks: Iterable[list[Read]], report: StreamReport) -> Iterator[ScoredBlock]:
        """Score blocks of reads as they come, each by itself; see :meth:`stream`."""
        preparer = Preparer(self.tokenizer, self.framing, self.long_reads)
        for block in blocks:
            scored = self.score(preparer.prepare(block))
            report.add(scored.noticed)
            yield scored

    def score(self, block: PreparedBlock) -> ScoredBlock:
        """The model's values for a block.

        Raises:
            DeviceMemoryError: a single read does not fit in the device's memory.
        """
        values = np.zeros((len(block.reads), self.width), np.float32)
        if block.tokens:
            values[block.bases > 0] = score_reads(
                self.run,
                block.tokens,
                self.framing,
                width=self.width,
                budget=self.budget,
                layout=self.layout,
                device=self.device,
            )
        return ScoredBlock(block.reads, block.bases, values, block.noticed)
