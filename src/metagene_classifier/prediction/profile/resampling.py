"""Counts drawn again: what else a sample, or a measurement of the confusions, could have shown."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.confusion import Confusion

__all__ = ["drawn_again", "redrawn_confusion"]

Int64s = npt.NDArray[np.int64]

_READS_AT_ONCE = 2**20


def drawn_again(counts: Int64s, rng: np.random.Generator) -> Int64s:
    """As many reads, drawn with replacement from those that were counted."""
    total = int(counts.sum())
    if not total:
        return counts
    there = np.flatnonzero(counts)
    drawn = np.zeros_like(counts)
    drawn[there] = rng.multinomial(total, counts[there] / total)
    return drawn


def redrawn_confusion(confusion: Confusion, rng: np.random.Generator) -> Confusion:
    """The reads of each class drawn with replacement from its own; every class keeps as many as it had."""
    from scipy.sparse import csr_array

    table = confusion.counts.tocsr()
    cells = np.asarray(table.data, np.int64)
    behind = np.cumsum(cells)  # reads lie one after another, cell by cell and row by row
    first = np.append(0, behind)[table.indptr[:-1]]
    row_reads = np.append(0, behind)[table.indptr[1:]] - first
    drawn = np.zeros_like(cells)
    total = int(row_reads.sum())
    row_behind = np.cumsum(row_reads)
    for start in range(0, total, _READS_AT_ONCE):
        reads = np.arange(start, min(total, start + _READS_AT_ONCE))
        rows = np.searchsorted(row_behind, reads, "right")
        chosen = first[rows] + (rng.random(len(reads)) * row_reads[rows]).astype(np.int64)
        drawn += np.bincount(np.searchsorted(behind, chosen, "right"), minlength=len(cells))
    return Confusion(csr_array((drawn, table.indices, table.indptr), shape=table.shape), confusion.has_unknown)
