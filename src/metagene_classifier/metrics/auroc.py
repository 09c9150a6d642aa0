"""Area under the receiver operating characteristic, every class against the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["one_vs_rest_auroc"]

# Scores are copied class by class into rows for sorting; a block bounds that copy to about 64 MB.
_BLOCK_SCORES = 16_000_000


def one_vs_rest_auroc(truth: np.ndarray[Any, Any], scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Each class's chance that a read of it scores higher than a read of another class, ties counting half.

    The Mann-Whitney form of the area (Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747): one sort and a
    binary search per class, which does 3,500 classes and 100,000 reads in seconds where a curve per class takes
    minutes.

    Args:
        truth: class indices, (reads,).
        scores: (reads, classes); only their order within a class matters.

    Returns:
        float64, (classes,); NaN for a class that no read, or every read, belongs to.
    """
    reads, classes = scores.shape
    areas = np.full(classes, np.nan)
    by_class = np.argsort(truth, kind="stable")
    bounds = np.searchsorted(truth[by_class], np.arange(classes + 1))
    step = max(1, _BLOCK_SCORES // max(reads, 1))
    for first in range(0, classes, step):
        rows = np.ascontiguousarray(scores[:, first : first + step].T)
        for label, row in enumerate(rows, start=first):
            members = by_class[bounds[label] : bounds[label + 1]]
            own, others = len(members), reads - len(members)
            if own == 0 or others == 0:
                continue
            positives = row[members]
            row.sort()
            below = np.searchsorted(row, positives, "left").sum()
            not_above = np.searchsorted(row, positives, "right").sum()
            # A read beaten is counted twice here and a tie once; positives against themselves add own^2.
            areas[label] = ((below + not_above) / 2 - own * own / 2) / (own * others)
    return areas
