"""Which segments go through the encoder together: as many as a token budget allows, with next to no padding."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Layout", "padding_share", "split_into_micro_batches"]

Layout = Literal["packed", "buckets", "padded"]

MAX_PADDING_SHARE = 0.05
# A bucket below this many tokens leaves the hardware idle: padding costs less than another call.
MIN_BUCKET_TOKENS = 512


def split_into_micro_batches(
    lengths: npt.NDArray[np.int64], *, max_tokens: int, layout: Layout, padded_length: int, together: int = 1
) -> list[npt.NDArray[np.int64]]:
    """Share segments out over micro-batches.

    Every segment is in exactly one micro-batch. A micro-batch takes at most ``max_tokens`` tokens, padding included,
    or one segment (``together`` of them) where that alone takes more.

    Args:
        lengths: tokens of each segment, special tokens included; ``(segments,)``.
        max_tokens: tokens of a micro-batch.
        layout: ``packed`` takes segments as they come, one after another; ``buckets`` groups equal lengths so that
            padding stays under 5%; ``padded`` pads every segment to ``padded_length``.
        padded_length: only for ``padded``.
        together: so many consecutive segments are one group, which is never parted.

    Returns:
        Indices into ``lengths``, one array a micro-batch; those of a group stay side by side.
    """
    if len(lengths) == 0:
        return []
    groups = lengths.reshape(-1, together)
    batches = _split_groups(groups, max_tokens, layout, padded_length)
    return [(members[:, None] * together + np.arange(together)).ravel() for members in batches]


def _split_groups(
    groups: npt.NDArray[np.int64], max_tokens: int, layout: Layout, padded_length: int
) -> list[npt.NDArray[np.int64]]:
    if layout == "padded":
        rows = max(1, max_tokens // (padded_length * groups.shape[1]))
        return [np.arange(start, min(start + rows, len(groups))) for start in range(0, len(groups), rows)]
    if layout == "packed":
        return _fill_in_order(groups.sum(axis=1), max_tokens)
    return _fill_buckets(groups, max_tokens)


def padding_share(lengths: npt.NDArray[np.int64], micro_batches: list[npt.NDArray[np.int64]]) -> float:
    """The share of computed tokens that is padding when each micro-batch is as wide as its longest segment."""
    computed = sum(len(batch) * int(lengths[batch].max()) for batch in micro_batches)
    return 1.0 - float(lengths.sum()) / computed if computed else 0.0


def _fill_in_order(lengths: npt.NDArray[np.int64], max_tokens: int) -> list[npt.NDArray[np.int64]]:
    batches = []
    first = 0
    held = 0
    for index, length in enumerate(lengths.tolist()):
        if held and held + length > max_tokens:
            batches.append(np.arange(first, index))
            first, held = index, 0
        held += length
    batches.append(np.arange(first, len(lengths)))
    return batches


def _fill_buckets(groups: npt.NDArray[np.int64], max_tokens: int) -> list[npt.NDArray[np.int64]]:
    longest, tokens, segments = groups.max(axis=1), groups.sum(axis=1), groups.shape[1]
    order = np.argsort(-longest, kind="stable")
    batches = []
    first = 0
    widest = held = 0
    for place, (length, added) in enumerate(zip(longest[order].tolist(), tokens[order].tolist(), strict=True)):
        rows = place - first
        if rows:
            computed = (rows + 1) * segments * widest
            full = computed > max_tokens
            wasteful = computed - held - added > MAX_PADDING_SHARE * computed and held >= MIN_BUCKET_TOKENS
            if full or wasteful:
                batches.append(order[first:place])
                first, held, rows = place, 0, 0
        if not rows:
            widest = length
        held += added
    batches.append(order[first:])
    return batches
