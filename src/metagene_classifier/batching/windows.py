"""Reads longer than the encoder's context become overlapping windows."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["window_count", "window_starts"]


def window_count(tokens: int, capacity: int, overlap: float) -> int:
    """How many windows of ``capacity`` tokens cover a read of ``tokens`` tokens."""
    if tokens <= capacity:
        return 1
    stride = max(1, capacity - math.ceil(capacity * overlap))
    return math.ceil((tokens - capacity) / stride) + 1


def window_starts(tokens: int, capacity: int, overlap: float) -> npt.NDArray[np.int64]:
    """Where the windows of a read begin: evenly spaced, the first at 0, the last ending with the read.

    Args:
        tokens: tokens of the read, special tokens not counted.
        capacity: tokens that fit into one window beside the special tokens.
        overlap: at least this share of a window is repeated by the next one.

    Returns:
        ``(windows,)``; one window at 0 for a read that fits.
    """
    count = window_count(tokens, capacity, overlap)
    if count == 1:
        return np.zeros(1, np.int64)
    return np.rint(np.linspace(0, tokens - capacity, count)).astype(np.int64)
