"""From class scores to calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metagene_classifier.model.scoring import probabilities_of
from metagene_classifier.prediction.scorer import ScoredBlock
from metagene_classifier.reads.labels import UNCLASSIFIED, Labels

__all__ = ["Call", "calls_of"]


@dataclass(frozen=True, slots=True)
class Call:
    """What a read is said to be.

    Attributes:
        read_id: as other tools name the read.
        call: the label, or ``unclassified``.
        taxid: of the label, where it has one.
        rank: empty as long as there is no taxonomy.
        confidence: probability of the label; 0 when unclassified for want of bases.
        length_bp: bases of the read as it stands in its file.
        reason: why a read is unclassified; empty otherwise.
        probabilities: of all classes; ``(classes,)`` float32.
    """

    read_id: str
    call: str
    taxid: int | None
    rank: str
    confidence: float
    length_bp: int
    reason: str
    probabilities: npt.NDArray[np.float32]


def calls_of(block: ScoredBlock, labels: Labels) -> Iterator[Call]:
    """A call for each read of a block, in order: its likeliest class."""
    probabilities = probabilities_of(block.values)
    best = probabilities.argmax(axis=1)
    for read, bases, row, winner in zip(block.reads, block.bases, probabilities, best.tolist(), strict=True):
        length_bp = len(read.sequence)
        if not bases:
            nothing = np.zeros(len(labels), np.float32)
            yield Call(read.id, UNCLASSIFIED, None, "", 0.0, length_bp, "no bases", nothing)
            continue
        label = labels.classes[winner]
        yield Call(read.id, label.label, label.taxid, "", float(row[winner]), length_bp, "", row)
