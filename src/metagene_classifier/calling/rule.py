"""The rule by which probabilities become calls.

* A class counts for its own taxon and for every taxon above it.
* The call is the deepest taxon whose summed probability reaches the threshold; of several as deep, the likeliest; of
  several as likely, the first in the tree.
* Where the root alone reaches it, the read is unclassified.

Classes may lie below others: of the probability of a strain its species has its share, and the species' own class adds
to it. Above a threshold of one half the taxa that reach it lie on one lineage, so there is one deepest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.tree import ClassTree

__all__ = ["Decisions", "decide", "likeliest"]

VALUES_AT_ONCE = 2**22
ROUNDING = 1e-6
"""What a sum of float32 probabilities may lack of a threshold and still reach it."""


@dataclass(frozen=True)
class Decisions:
    """What reads are called.

    Attributes:
        taxa: places in the tree, 0 (the root) for unclassified; ``(reads,)`` int64.
        confidence: summed probability of the taxon; of an unclassified read that of the likeliest taxon below the root.
            ``(reads,)`` float64.
    """

    taxa: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]


def decide(probabilities: npt.NDArray[np.floating[Any]], tree: ClassTree, threshold: float) -> Decisions:
    """Call reads at the deepest taxon that is sure enough.

    Args:
        probabilities: calibrated, ``(reads, classes)``.
        tree: of the classes.
        threshold: summed probability that a taxon must reach.
    """
    taxa = np.zeros(len(probabilities), np.int64)
    confidence = np.zeros(len(probabilities))
    unsure = np.arange(len(probabilities))
    if threshold - ROUNDING > 0.5:
        # The taxa that reach it lie on one lineage, whose end is a class that does with nothing below: no need to add.
        own = likeliest(probabilities, tree)
        sure = tree.stands_alone[own.taxa] & (own.confidence >= threshold - ROUNDING)
        taxa[sure], confidence[sure] = own.taxa[sure], own.confidence[sure]
        unsure = np.flatnonzero(~sure)
    rows = max(1, VALUES_AT_ONCE // len(tree))
    for start in range(0, len(unsure), rows):
        part = unsure[start : start + rows]
        sums = tree.sums(probabilities[part])[:, 1:]  # the root is no call
        reads, reached = np.nonzero(sums >= threshold - ROUNDING)
        order = np.lexsort((reached, -sums[reads, reached], -tree.depths[reached + 1], reads))
        called, first = np.unique(reads[order], return_index=True)
        best = np.full(len(sums), -1)
        best[called] = reached[order[first]]
        without = np.flatnonzero(best < 0)
        taxa[part] = best + 1
        best[without] = sums[without].argmax(axis=1)
        confidence[part] = sums[np.arange(len(sums)), best]
    return Decisions(taxa, confidence)


def likeliest(probabilities: npt.NDArray[np.floating[Any]], tree: ClassTree) -> Decisions:
    """Call every read at its likeliest class, whatever its probability."""
    best = probabilities.argmax(axis=1)
    return Decisions(tree.taxon_of_class[best], probabilities[np.arange(len(best)), best].astype(np.float64))
