"""A stream of reads through a model, in fixed blocks, so that memory stays the same however long the stream is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.batching.batch import TokenBatch
from metagene_classifier.batching.framing import Framing
from metagene_classifier.batching.micro_batches import Layout
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.model.scoring import average_windows, score_segments
from metagene_classifier.prediction.preparing import LongReads, PreparedBlock, Preparer, Strand
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.blocks import in_blocks
from metagene_classifier.reads.read import Read
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = ["READS_PER_BLOCK", "Beyond", "ScoredBlock", "Scorer"]

# No micro-batch holds reads of two blocks: so a block has the same scores whoever computes it, beside whichever others.
READS_PER_BLOCK = 4096


def _no_counts() -> npt.NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class ScoredBlock:
    """Reads of a stream, in order, with the model's values.

    Attributes:
        reads: as they stand in the file.
        bases: of each read after cleaning, 0 where none is known (nothing, or N alone); ``(reads,)``.
        values: ``(reads, width)`` float32; zeros for a read without a base.
        noticed: of this block.
        tokens: of each read, special tokens not counted; ``(reads,)``.
        window_counts: of each read, 0 for one without a base; ``(reads,)``.
        window_values: of all windows, read after read; ``(windows, width)``. Where strands are averaged, a read of one
            window has the average; windows of longer ones are of the read as it stands in the file.
        window_tokens: of each window, special tokens not counted; ``(windows,)``.
        window_spans: from which base to which, from 0, after cleaning, half open; ``(windows, 2)``.
        complexity: of each read, where it was asked for; ``(reads,)``.
        extra: a value beside the classes', where the model gives one; ``(reads,)``.
        window_extra: likewise of each window; ``(windows,)``.
    """

    reads: list[Read]
    bases: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    noticed: StreamReport
    tokens: npt.NDArray[np.int64] = field(default_factory=_no_counts)
    window_counts: npt.NDArray[np.int64] = field(default_factory=_no_counts)
    window_values: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    window_tokens: npt.NDArray[np.int64] = field(default_factory=_no_counts)
    window_spans: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    complexity: npt.NDArray[np.float64] | None = None
    extra: npt.NDArray[np.float64] | None = None
    window_extra: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Beyond:
    """Values that a model gives beside those of the classes, and what becomes of them.

    Attributes:
        width: how many.
        made: them, of reads or windows, to one number each; ``(some, width)`` to ``(some,)``.
    """

    width: int
    made: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Scorer:
    """A model as a function of reads.

    Attributes:
        run: a batch to ``(segments, width)``, or ``(segments, width + beyond.width)``.
        width: values of a read: classes, or the encoder's hidden size.
        tokenizer: the encoder's.
        framing: how tokens become segments.
        layout: how segments lie in a micro-batch.
        budget: tokens of a micro-batch.
        device: the encoder's.
        long_reads: what happens to reads that do not fit one segment.
        strand: ``average`` scores each read and its reverse complement, and takes the mean.
        complexity: measure how complex reads are.
        beyond: what ``run`` gives behind these values, where it gives more.
    """

    run: Callable[[TokenBatch], torch.Tensor]
    width: int
    tokenizer: ReadTokenizer
    framing: Framing
    layout: Layout
    budget: TokenBudget
    device: torch.device
    long_reads: LongReads
    strand: Strand = "single"
    complexity: bool = False
    beyond: Beyond | None = None

    def stream(self, reads: Iterable[Read], report: StreamReport) -> Iterator[ScoredBlock]:
        """Score reads block by block. When the reads raise, those before are scored and yielded first.

        Raises:
            DataError: a read is longer than the context and ``long_reads`` is ``error``.
            DeviceMemoryError: a single read does not fit in the device's memory.
        """
        return self.stream_blocks(in_blocks(reads, READS_PER_BLOCK), report)

    def stream_blocks(self, blocks: Iterable[list[Read]], report: StreamReport) -> Iterator[ScoredBlock]:
        """Score blocks of reads as they come, each by itself; see :meth:`stream`."""
        preparer = self.preparer()
        for block in blocks:
            scored = self.score(preparer.prepare(block))
            report.add(scored.noticed)
            yield scored

    def preparer(self) -> Preparer:
        """What makes reads ready for it."""
        return Preparer(self.tokenizer, self.framing, self.long_reads, self.strand, self.complexity)

    def score(self, block: PreparedBlock) -> ScoredBlock:
        """The model's values for a block.

        Raises:
            DeviceMemoryError: a single read does not fit in the device's memory.
        """
        present = block.bases > 0
        strands = [block.tokens, block.reversed_tokens] if self.strand == "average" else [block.tokens]
        pieces = [[self.framing.segments(tokens) for tokens in strand] for strand in strands]
        segments = [segment for strand in pieces for piece in strand for segment in piece]
        width = self.width + (self.beyond.width if self.beyond is not None else 0)
        found = np.zeros((0, width), np.float32)
        if segments:
            found = score_segments(
                self.run,
                segments,
                self.framing,
                width=width,
                budget=self.budget,
                layout=self.layout,
                device=self.device,
            )
        lengths = np.fromiter(map(len, segments), np.int64, len(segments))
        counts = [np.fromiter(map(len, strand), np.int64, len(strand)) for strand in pieces]
        windows = found[: counts[0].sum()]
        by_read = [
            _of_reads(values, windows_of_read, tokens)
            for values, windows_of_read, tokens in zip(
                np.split(found, [len(windows)]), counts, np.split(lengths, [len(windows)]), strict=False
            )
        ]
        own = by_read[0]
        if len(by_read) > 1:
            own = (by_read[0] + by_read[1]) * np.float32(0.5)
            alone = np.repeat(counts[0] == 1, counts[0])
            windows = windows.copy()
            windows[alone] = own[counts[0] == 1]
        values = own
        if not present.all():
            values = np.zeros((len(block.reads), own.shape[1]), np.float32)
            values[present] = own
        tokens = np.zeros(len(block.reads), np.int64)
        tokens[present] = np.fromiter(map(len, block.tokens), np.int64, len(block.tokens))
        window_counts = np.zeros(len(block.reads), np.int64)
        window_counts[present] = counts[0]
        return ScoredBlock(
            block.reads,
            block.bases,
            self._of_classes(values),
            block.noticed,
            tokens=tokens,
            window_counts=window_counts,
            window_values=self._of_classes(windows),
            window_tokens=lengths[: len(windows)] - (self.framing.max_length - self.framing.capacity),
            window_spans=block.spans,
            complexity=block.complexity,
            extra=self._extra_of(values),
            window_extra=self._extra_of(windows),
        )

    def _of_classes(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        # The same array where it can be: pickled once for reads and windows.
        return values if self.beyond is None else values[:, : self.width].copy()

    def _extra_of(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64] | None:
        return None if self.beyond is None else self.beyond.made(values[:, self.width :])


def _of_reads(
    values: npt.NDArray[np.float32], windows: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Values of windows to those of reads."""
    return values if len(values) == len(windows) else average_windows(values, windows, lengths)
