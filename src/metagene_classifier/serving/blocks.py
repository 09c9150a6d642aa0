"""Reads of several requests as one block for the model, and its scores parted again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from metagene_classifier.prediction.preparing import PreparedBlock
from metagene_classifier.prediction.scorer import ScoredBlock
from metagene_classifier.prediction.stream_report import StreamReport

__all__ = ["joined", "parted"]

Number = TypeVar("Number", bound=np.generic)


def joined(blocks: Sequence[PreparedBlock]) -> PreparedBlock:
    """Prepared blocks one after another as one; at least one."""
    if len(blocks) == 1:
        return blocks[0]
    noticed = StreamReport()
    for block in blocks:
        noticed.add(block.noticed)
    complexity = [block.complexity for block in blocks if block.complexity is not None]
    return PreparedBlock(
        reads=[read for block in blocks for read in block.reads],
        bases=np.concatenate([block.bases for block in blocks]),
        tokens=[ids for block in blocks for ids in block.tokens],
        noticed=noticed,
        reversed_tokens=[ids for block in blocks for ids in block.reversed_tokens],
        complexity=np.concatenate(complexity) if complexity else None,
        spans=np.concatenate([block.spans for block in blocks]),
    )


def parted(scored: ScoredBlock, of: Sequence[PreparedBlock]) -> Iterator[ScoredBlock]:
    """The scores of :func:`joined` blocks, a block for each that went in."""
    read = window = 0
    ends = np.concatenate([[0], np.cumsum(scored.window_counts)])
    for block in of:
        reads = slice(read, read + len(block.reads))
        windows = slice(window, int(ends[reads.stop]))
        yield ScoredBlock(
            scored.reads[reads],
            scored.bases[reads],
            scored.values[reads],
            block.noticed,
            tokens=scored.tokens[reads],
            window_counts=scored.window_counts[reads],
            window_values=scored.window_values[windows],
            window_tokens=scored.window_tokens[windows],
            window_spans=scored.window_spans[windows],
            complexity=_of(scored.complexity, reads),
            extra=_of(scored.extra, reads),
            window_extra=_of(scored.window_extra, windows),
        )
        read, window = reads.stop, windows.stop


def _of(values: npt.NDArray[Number] | None, part: slice) -> npt.NDArray[Number] | None:
    return None if values is None else values[part]
