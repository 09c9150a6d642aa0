"""What a read, or a pair of mates, is said to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metagene_classifier.reads.read import Read

__all__ = ["Call", "Hit"]


@dataclass(frozen=True, slots=True)
class Hit:
    """What one window of a read is called: a taxid, 0 when unclassified, and how many tokens the window has."""

    taxid: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Call:
    """What a read, or a pair of mates, is said to be.

    Attributes:
        read_id: as other tools name the read; of a pair without ``/1`` and ``/2``.
        call: a class's label or a taxon's name, or ``unclassified``.
        taxid: of the taxon, where it has one.
        rank: of the taxon; empty without a taxonomy.
        confidence: calibrated probability of the taxon; 0 where no mate has a base.
        length_bp: bases as they stand in the file, of both mates together.
        reason: why a read is unclassified; empty otherwise.
        probabilities: of all classes, calibrated; ``(classes,)`` float32.
        taxon: place in the tree of classes, 0 when unclassified.
        best_class: the likeliest class, whatever its probability; -1 where no mate has a base.
        reads: the read, or the two mates.
        hits: of each of them, window by window.
    """

    read_id: str
    call: str
    taxid: int | None
    rank: str
    confidence: float
    length_bp: int
    reason: str
    probabilities: npt.NDArray[np.float32]
    taxon: int
    best_class: int
    reads: tuple[Read, ...]
    hits: tuple[tuple[Hit, ...], ...]
