"""Which threshold: how many calls are right, vague and wrong at each, counted as Kraken 2's paper does.

A call of a read's own taxon is right, one above it is vague, any other is wrong (Wood, Lu and Langmead 2019,
doi:10.1186/s13059-019-1891-0). A read of a taxon that the model does not have cannot be called right: above its taxon a
call is vague, and elsewhere it is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.rule import ROUNDING, VALUES_AT_ONCE
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.model.calibration import CutOff

__all__ = ["THRESHOLDS", "Ladders", "Outcomes", "best_threshold", "cut_off_table", "ladders", "outcomes"]

THRESHOLDS: npt.NDArray[np.float64] = np.concatenate(
    [np.arange(1, 199) / 200, [0.9925, 0.995, 0.9975, 0.999, 0.9995, 0.9999]]
)
"""What is tried, from below up."""


@dataclass(frozen=True)
class Ladders:
    """What each read is called at every threshold: as the threshold falls, calls step down the tree.

    Attributes:
        reads: which read a rung is of; ``(rungs,)`` int64.
        taxa: that it is called there.
        highest: the threshold up to which it is called that; ``(rungs,)`` float64.
        lowest: at this one and below it is called something deeper; 0 on the last rung.
    """

    reads: npt.NDArray[np.int64]
    taxa: npt.NDArray[np.int64]
    highest: npt.NDArray[np.float64]
    lowest: npt.NDArray[np.float64]


def ladders(
    probabilities: npt.NDArray[np.floating[Any]], tree: ClassTree, least: float = float(THRESHOLDS[0])
) -> Ladders:
    """The calls of :func:`~metagene_classifier.calling.rule.decide` for all thresholds from ``least`` up at once.

    Args:
        probabilities: calibrated, ``(reads, classes)``; a class that a model does not have has 0.
        tree: of the classes.
        least: thresholds below are not asked about.
    """
    parts = []
    rows = max(1, VALUES_AT_ONCE // len(tree))
    for start in range(0, len(probabilities), rows):
        sums = tree.sums(probabilities[start : start + rows])
        sums[:, 0] = 0.0  # the root is no call
        reads, taxa = np.nonzero(sums >= least - ROUNDING)
        held = sums[reads, taxa]
        # Taxa join in the order of their sums; one that is deeper than all before it takes the call over. Where sums
        # are equal they join together, and then the deepest has it, and the first of these.
        order = np.lexsort((taxa, -tree.depths[taxa], -held, reads))
        reads, taxa, held = reads[order], taxa[order], held[order]
        deeper = _is_deeper(reads, tree.depths[taxa], int(tree.depths.max(initial=0)))
        parts.append((reads[deeper] + start, taxa[deeper], held[deeper]))
    reads, taxa, highest = (np.concatenate(part) for part in zip(*parts, strict=True)) if parts else _nothing()
    lowest = np.zeros(len(reads))
    followed = np.flatnonzero(reads[1:] == reads[:-1])
    lowest[followed] = highest[followed + 1]
    return Ladders(reads, taxa, highest, lowest)


def _nothing() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)


def _is_deeper(reads: npt.NDArray[np.int64], depths: npt.NDArray[np.int64], deepest: int) -> npt.NDArray[np.bool_]:
    """Whether each entry lies deeper than all entries of the same read before it."""
    if not len(reads):
        return np.zeros(0, np.bool_)
    # Reads are in order, so a running maximum begins anew where the read's share of the key takes over.
    keys = reads * (deepest + 1) + depths
    before = np.concatenate([[-1], np.maximum.accumulate(keys)[:-1]])
    deeper: npt.NDArray[np.bool_] = keys > np.maximum(before, reads * (deepest + 1))
    return deeper


@dataclass(frozen=True)
class Outcomes:
    """How calls turn out at each threshold; ``(thresholds,)`` each, weighted.

    Attributes:
        thresholds: from below up.
        right: calls of the read's own taxon.
        vague: calls above it.
        wrong: all other calls.
        reads: all reads that could have been called right.
    """

    thresholds: npt.NDArray[np.float64]
    right: npt.NDArray[np.float64]
    vague: npt.NDArray[np.float64]
    wrong: npt.NDArray[np.float64]
    reads: float

    def __add__(self, other: Outcomes) -> Outcomes:
        return Outcomes(
            self.thresholds,
            self.right + other.right,
            self.vague + other.vague,
            self.wrong + other.wrong,
            self.reads + other.reads,
        )

    @property
    def called(self) -> npt.NDArray[np.float64]:
        """Calls of any kind."""
        return self.right + self.vague + self.wrong

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """Right among right and wrong; 1 where nothing is either."""
        judged = self.right + self.wrong
        return np.divide(self.right, judged, out=np.ones_like(judged), where=judged > 0)

    @property
    def sensitivity(self) -> npt.NDArray[np.float64]:
        """Right among all reads that could be."""
        return self.right / self.reads if self.reads else np.zeros_like(self.right)

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """Harmonic mean of precision and sensitivity."""
        both = self.precision + self.sensitivity
        return np.divide(2 * self.precision * self.sensitivity, both, out=np.zeros_like(both), where=both > 0)


def outcomes(
    called: Ladders,
    truth: npt.NDArray[np.int64],
    tree: ClassTree,
    *,
    known: bool = True,
    weight: float = 1.0,
    refused: npt.NDArray[np.bool_] | None = None,
    thresholds: npt.NDArray[np.float64] = THRESHOLDS,
) -> Outcomes:
    """Count how calls turn out.

    Args:
        called: of reads.
        truth: taxon of each read; ``(reads,)``.
        tree: of the model.
        known: whether the model has these taxa; if it has not, no call is right.
        weight: of a read.
        refused: reads that are called nothing at any threshold; ``(reads,)``.
        thresholds: from below up, none below the ``least`` of the ladders.
    """
    kept = np.ones(len(called.reads), np.bool_) if refused is None else ~refused[called.reads]
    reads, taxa = called.reads[kept], called.taxa[kept]
    own = truth[reads]
    right = (taxa == own) & known
    vague = tree.is_on_lineage(taxa, own) & ~right
    # A rung holds for the thresholds above its lowest, up to its highest.
    first = np.searchsorted(thresholds - ROUNDING, called.lowest[kept], "right")
    behind = np.searchsorted(thresholds - ROUNDING, called.highest[kept], "right")

    def counted(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        size = len(thresholds) + 1
        steps = np.bincount(first[chosen], minlength=size) - np.bincount(behind[chosen], minlength=size)
        return weight * np.cumsum(steps)[:-1].astype(np.float64)

    return Outcomes(
        thresholds, counted(right), counted(vague), counted(~right & ~vague), weight * len(truth) if known else 0.0
    )


def best_threshold(together: Outcomes) -> tuple[float, float]:
    """The threshold of the best F1, the lowest of equals, and that F1."""
    best = int(together.f1.argmax())
    return float(together.thresholds[best]), float(together.f1[best])


def cut_off_table(known: Outcomes, together: Outcomes) -> tuple[CutOff, ...]:
    """A row for each threshold: precision and sensitivity on the known reads, F1 on all.

    Thresholds at which no call is right or wrong are left out: nothing is known of their precision.
    """
    judged = np.flatnonzero(known.right + known.wrong > 0)
    columns = (known.thresholds, known.precision, known.sensitivity, known.called, together.f1)
    return tuple(
        CutOff(threshold=threshold, precision=precision, sensitivity=sensitivity, called=round(called), f1=f1)
        for threshold, precision, sensitivity, called, f1 in zip(
            *(column[judged].tolist() for column in columns), strict=True
        )
    )
