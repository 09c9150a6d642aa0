"""A micro-batch as the encoder takes it: packed in one row, or a row for each segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.batching.micro_batches import Layout

__all__ = ["TokenBatch", "collate"]


@dataclass(frozen=True)
class TokenBatch:
    """Segments (reads, or windows of long reads) ready for the encoder.

    Attributes:
        ids: token ids, ``(1, tokens)`` packed or ``(segments, longest)``; int64.
        positions: of each token in its own segment; same shape.
        lengths: tokens of each segment, in order; ``(segments,)`` int64, on the CPU.
        keys: one number a segment that dropout is derived from; ``(segments,)`` int64.
        packed: whether segments lie one after another in a single row.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    lengths: torch.Tensor
    keys: torch.Tensor
    packed: bool

    def to(self, device: torch.device) -> TokenBatch:
        """The same batch with everything but ``lengths`` on ``device``."""
        return TokenBatch(
            self.ids.to(device, non_blocking=True),
            self.positions.to(device, non_blocking=True),
            self.lengths,
            self.keys.to(device, non_blocking=True),
            self.packed,
        )

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """How many tokens are computed, padding included."""
        return self.ids.numel()

    def token_mask(self) -> torch.Tensor:
        """True where a token is of a segment and not padding; the shape of ``ids``."""
        if self.packed:
            return torch.ones_like(self.ids, dtype=torch.bool)
        return self.positions < self.lengths.to(self.ids.device)[:, None]

    def real_places(self) -> torch.Tensor | None:
        """Where the segments' tokens stand in the flattened ``ids``; ``(tokens,)`` int64, ``None`` for all of them.

        Worked out on the CPU, where the lengths are, so that a GPU is not waited for.
        """
        lengths = self.lengths.numpy()
        if self.packed or int(lengths.sum()) == self.ids.numel():
            return None
        real = np.arange(self.ids.shape[1])[None, :] < lengths[:, None]
        return torch.from_numpy(np.flatnonzero(real)).to(self.ids.device, non_blocking=True)

    def boundaries(self) -> torch.Tensor:
        """Where segments begin and end among the real tokens; ``(segments + 1,)`` int32, on the ids' device."""
        zero = torch.zeros(1, dtype=torch.int64)
        return torch.cat([zero, self.lengths.cumsum(0)]).to(self.ids.device, torch.int32)


def collate(
    segments: Sequence[npt.NDArray[Any]],
    keys: npt.NDArray[np.int64],
    *,
    layout: Layout,
    padded_length: int,
    pad_id: int,
) -> TokenBatch:
    """Lay segments out for the encoder.

    Args:
        segments: token ids of each, special tokens included.
        keys: see :class:`TokenBatch`.
        layout: ``packed``, ``buckets`` (as wide as the longest) or ``padded`` (as wide as ``padded_length``).
        padded_length: only for ``padded``.
        pad_id: fills the rest of a row; any id of the vocabulary, since it is masked out everywhere.
    """
    lengths = np.fromiter((len(segment) for segment in segments), np.int64, len(segments))
    if layout == "packed":
        flat = np.concatenate(segments).astype(np.int64)
        ends = np.cumsum(lengths)
        positions = np.arange(len(flat)) - np.repeat(ends - lengths, lengths)
        ids, positions = flat[None, :], positions[None, :]
    else:
        width = padded_length if layout == "padded" else int(lengths.max())
        ids = np.full((len(segments), width), pad_id, np.int64)
        for row, segment in enumerate(segments):
            ids[row, : len(segment)] = segment
        positions = np.broadcast_to(np.arange(width), ids.shape).copy()
    return TokenBatch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(lengths),
        torch.from_numpy(np.ascontiguousarray(keys, np.int64)),
        layout == "packed",
    )
