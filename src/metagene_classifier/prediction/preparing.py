"""Reads made ready for a model: cleaned and tokenized, a block at a time; no model and no device is needed for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from metagene_classifier.batching.framing import Framing
from metagene_classifier.calling.screening import complexities
from metagene_classifier.errors import DataError, TokenizerError
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.cleaning import clean_sequence
from metagene_classifier.reads.read import Read
from metagene_classifier.reads.strand import reverse_complement
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = ["LongReads", "PreparedBlock", "Preparer", "Strand"]

LongReads = Literal["window", "truncate", "error"]
Strand = Literal["single", "average"]


@dataclass(frozen=True)
class PreparedBlock:
    """Reads of a stream, in order, with their tokens.

    Attributes:
        reads: as they stand in the file.
        bases: of each read after cleaning, 0 where none is known (nothing, or N alone); ``(reads,)``.
        tokens: ids of each read with a base, in order, without special tokens.
        noticed: of this block.
        reversed_tokens: likewise of the other strand; empty where one strand is scored.
        complexity: of each read, see :func:`~metagene_classifier.calling.screening.complexities`; ``None`` where
            nobody asks for it.
        spans: of each window of reads with a base, from which base to which it goes, counted from 0 after cleaning and
            half open; ``(windows, 2)``.
    """

    reads: list[Read]
    bases: npt.NDArray[np.int64]
    tokens: list[npt.NDArray[Any]]
    noticed: StreamReport
    reversed_tokens: list[npt.NDArray[Any]] = field(default_factory=list)
    complexity: npt.NDArray[np.float64] | None = None
    spans: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))


@dataclass(frozen=True)
class Preparer:
    """Cleaning and tokenizing as a model wants it.

    Attributes:
        tokenizer: the encoder's.
        framing: how tokens become segments.
        long_reads: what happens to reads that do not fit one segment.
        strand: ``average`` has the other strand of each read tokenized too.
        complexity: measure how complex reads are.
    """

    tokenizer: ReadTokenizer
    framing: Framing
    long_reads: LongReads
    strand: Strand = "single"
    complexity: bool = False

    def prepare(self, reads: list[Read]) -> PreparedBlock:
        """Clean and tokenize a block.

        Raises:
            DataError: a read is longer than the context and ``long_reads`` is ``error``.
        """
        noticed = StreamReport(reads=len(reads))
        cleaned = [clean_sequence(read.sequence) for read in reads]
        for read, sequence in zip(reads, cleaned, strict=True):
            noticed.cleaning.add(read.sequence, sequence)
        bases = np.fromiter((len(one) if one.strip("N") else 0 for one in cleaned), np.int64, len(cleaned))
        present = np.flatnonzero(bases)
        noticed.empty = len(reads) - len(present)
        known = [cleaned[place] for place in present]
        tokens = self.tokenizer.encode_batch(known)
        ends = bases[present]
        spans = [np.stack([np.zeros_like(ends), ends], axis=1)]
        if max(map(len, tokens), default=0) > self.framing.capacity:
            pieces = []
            for place, ids in enumerate(tokens):
                piece = spans[0][place : place + 1]
                if len(ids) > self.framing.capacity:
                    piece = self._window_spans(ids, int(ends[place]))
                    tokens[place] = self._long(reads[present[place]], ids, noticed)
                    if self.long_reads == "truncate":
                        piece = piece[:1]
                        known[place] = known[place][: piece[0, 1]]
                pieces.append(piece)
            spans = pieces
        return PreparedBlock(
            reads,
            bases,
            tokens,
            noticed,
            reversed_tokens=self._reversed(known) if self.strand == "average" else [],
            complexity=complexities(cleaned) if self.complexity else None,
            spans=np.concatenate(spans),
        )

    def _reversed(self, sequences: Sequence[str]) -> list[npt.NDArray[Any]]:
        """Tokens of the other strands, which may be some more or fewer than those of the reads."""
        tokens = self.tokenizer.encode_batch([reverse_complement(one) for one in sequences])
        if self.long_reads == "window":
            return tokens
        return [ids[: self.framing.capacity] for ids in tokens]

    def _long(self, read: Read, ids: npt.NDArray[Any], noticed: StreamReport) -> npt.NDArray[Any]:
        if self.long_reads == "error":
            raise DataError(
                f"read {read.id} has {len(ids)} tokens and {self.framing.capacity} fit: "
                "shorten it, or use --long-reads window or truncate"
            )
        if self.long_reads == "truncate":
            noticed.truncated += 1
            return ids[: self.framing.capacity]
        noticed.windowed += 1
        return ids

    def _window_spans(self, ids: npt.NDArray[Any], bases: int) -> npt.NDArray[np.int64]:
        """Where the windows of a long read begin and end, in bases; ``(windows, 2)``."""
        try:
            _, counts = self.tokenizer.decode_codes(ids, np.ones(len(ids), np.int64))
        except TokenizerError:
            counts = np.zeros(len(ids), np.int64)
        before = np.concatenate([[0], np.cumsum(counts)])
        if before[-1] != bases:  # tokens that overlap, or that have no text: in proportion
            before = np.rint(np.arange(len(ids) + 1) * (bases / len(ids))).astype(np.int64)
        starts = self.framing.starts(len(ids))
        return np.stack([before[starts], before[np.minimum(starts + self.framing.capacity, len(ids))]], axis=1)
