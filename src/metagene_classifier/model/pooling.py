"""One vector a segment from the hidden states of its tokens. Pooling is per segment, never per row."""

from __future__ import annotations

from typing import Literal

import torch

__all__ = ["Pooling", "pool"]

Pooling = Literal["mean", "max", "cls", "last"]


def pool(hidden: torch.Tensor, lengths: torch.Tensor, how: Pooling) -> torch.Tensor:
    """Pool the tokens of each segment.

    Args:
        hidden: hidden states of the real tokens, segment after segment; ``(tokens, hidden)``.
        lengths: tokens of each segment; ``(segments,)``, summing to ``tokens``.
        how: ``mean`` over all tokens, special tokens included; ``max``; ``cls``, the first token; ``last``.

    Returns:
        ``(segments, hidden)`` in float32.
    """
    lengths = lengths.to(hidden.device)
    if how in ("mean", "max"):
        # Each segment is reduced by itself in a fixed order, so neighbours never change its last bits.
        return torch.segment_reduce(hidden.float(), how, lengths=lengths, axis=0, unsafe=True)
    ends = lengths.cumsum(0)
    return hidden[ends - lengths if how == "cls" else ends - 1].float()
