"""What a read, or a pair of mates, is said to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metagene_classifier.reads.read import Read

__all__ = ["Call", "Hit", "WindowCall"]


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


@dataclass(frozen=True, slots=True)
class WindowCall:
    """What one window of a read is called.

    Attributes:
        read_id: of the read, or of the pair.
        mate: 1 or 2; 1 where reads are not paired.
        window: which of the read's, from 1.
        start_bp: base of the cleaned read with which it begins, from 0.
        end_bp: base behind its last one.
        call: a class's label or a taxon's name, or ``unclassified``.
        taxid: of the taxon, where it has one.
        rank: of the taxon.
        confidence: calibrated probability of the taxon.
    """

    read_id: str
    mate: int
    window: int
    start_bp: int
    end_bp: int
    call: str
    taxid: int | None
    rank: str
    confidence: float
