"""Reads made ready for a model: cleaned and tokenized, a block at a time; no model and no device is needed for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from metagene_classifier.batching.framing import Framing
from metagene_classifier.errors import DataError
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.cleaning import clean_sequence
from metagene_classifier.reads.read import Read
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = ["LongReads", "PreparedBlock", "Preparer"]

LongReads = Literal["window", "truncate", "error"]


@dataclass(frozen=True)
class PreparedBlock:
    """Reads of a stream, in order, with their tokens.

    Attributes:
        reads: as they stand in the file.
        bases: of each read after cleaning, 0 where none is known (nothing, or N alone); ``(reads,)``.
        tokens: ids of each read with a base, in order, without special tokens.
        noticed: of this block.
    """

    reads: list[Read]
    bases: npt.NDArray[np.int64]
    tokens: list[npt.NDArray[Any]]
    noticed: StreamReport


@dataclass(frozen=True)
class Preparer:
    """Cleaning and tokenizing as a model wants it.

    Attributes:
        tokenizer: the encoder's.
        framing: how tokens become segments.
        long_reads: what happens to reads that do not fit one segment.
    """

    tokenizer: ReadTokenizer
    framing: Framing
    long_reads: LongReads

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
        tokens = self.tokenizer.encode_batch([cleaned[place] for place in present])
        for place, ids in enumerate(tokens):
            if len(ids) > self.framing.capacity:
                tokens[place] = self._long(reads[present[place]], ids, noticed)
        return PreparedBlock(reads, bases, tokens, noticed)

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
