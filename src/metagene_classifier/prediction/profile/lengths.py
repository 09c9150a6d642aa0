"""Reads by length, in constant memory whatever the lengths, and as a picture wants them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["FINE_EDGES", "equal_bins", "fine_bins"]

_EXACT = 512
_PER_OCTAVE = 64
_OCTAVES = 15

FINE_EDGES: npt.NDArray[np.int64] = np.concatenate(
    [
        np.arange(_EXACT),
        np.rint(_EXACT * 2 ** (np.arange(_PER_OCTAVE * _OCTAVES) / _PER_OCTAVE)).astype(np.int64),
    ]
)
"""Where bins begin: each length below 512 bases has one, then come bins of about 1% of their length; the last has no
end."""


def fine_bins(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The bin of each length; ``(reads,)``."""
    found: npt.NDArray[np.int64] = np.searchsorted(FINE_EDGES, lengths, "right") - 1
    return found


def equal_bins(counts: npt.NDArray[np.int64], most: int = 40) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Bins of equal width over the lengths that there are.

    Args:
        counts: reads in each bin of :data:`FINE_EDGES`.
        most: bins at most.

    Returns:
        Edges ``(bins + 1,)`` in bases, and counts ``(bins,)``; one empty bin where there are no reads.
    """
    there = np.flatnonzero(counts)
    if not len(there):
        return np.array([0, 1]), np.zeros(1, np.int64)
    first, last = int(FINE_EDGES[there[0]]), int(FINE_EDGES[there[-1]])
    width = -(-(last + 1 - first) // most)
    places = (FINE_EDGES[there] - first) // width
    bins = int(places[-1]) + 1
    summed = np.zeros(bins, np.int64)
    np.add.at(summed, places, counts[there])
    return first + width * np.arange(bins + 1), summed
