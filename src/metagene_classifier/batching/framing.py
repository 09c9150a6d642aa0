"""From the tokens of a read to the segments that an encoder takes: special tokens, and windows for long reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.batching.windows import window_count, window_starts
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = ["Framing", "framing_for"]


@dataclass(frozen=True)
class Framing:
    """How the tokens of a read become segments that the encoder takes.

    Attributes:
        prefix: special ids before each segment.
        suffix: special ids after it.
        pad_id: fills rows; masked out everywhere.
        max_length: tokens of the longest segment, special tokens included.
        overlap: share of a window that the next one repeats.
        first_only: of a read that is longer than a segment the first one alone is taken: the read is cut.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pad_id: int
    max_length: int
    overlap: float
    first_only: bool = False

    @property
    def capacity(self) -> int:
        """Tokens of a read that fit into one segment."""
        return self.max_length - len(self.prefix) - len(self.suffix)

    def frame(self, tokens: npt.NDArray[Any], start: int = 0) -> npt.NDArray[np.int64]:
        """The segment that begins at token ``start`` of a read, special tokens around it."""
        window = tokens[start : start + self.capacity]
        return np.concatenate(
            [np.asarray(self.prefix, np.int64), window.astype(np.int64), np.asarray(self.suffix, np.int64)]
        )

    def windows(self, tokens: int) -> int:
        """How many segments a read of so many tokens makes."""
        return 1 if self.first_only else window_count(tokens, self.capacity, self.overlap)

    def starts(self, tokens: int) -> npt.NDArray[np.int64]:
        """Where the segments of a read of so many tokens begin."""
        if self.first_only:
            return np.zeros(1, np.int64)
        return window_starts(tokens, self.capacity, self.overlap)

    def segment_tokens(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Tokens of each segment of reads of so many tokens, special tokens included; ``(reads,)``.

        All segments of a read are of one length.
        """
        return np.minimum(lengths, self.capacity) + (self.max_length - self.capacity)

    def segments(self, tokens: npt.NDArray[Any]) -> list[npt.NDArray[np.int64]]:
        """All the segments of a read: one, or windows when it is longer than one takes."""
        return [self.frame(tokens, int(start)) for start in self.starts(len(tokens))]


def framing_for(tokenizer: ReadTokenizer, max_length: int, overlap: float, *, first_only: bool = False) -> Framing:
    """How a tokenizer's output becomes segments."""
    pad_id = tokenizer.pad_id if tokenizer.pad_id is not None else 0
    return Framing(tokenizer.prefix_ids, tokenizer.suffix_ids, pad_id, max_length, overlap, first_only)
