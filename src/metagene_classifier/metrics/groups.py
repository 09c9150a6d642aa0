"""Calls by what the reads are like: their length, their error rate, their strand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.metrics.calls import call_figures, share

__all__ = [
    "ERROR_RATES",
    "LENGTHS",
    "STRANDS",
    "Bins",
    "GroupCounts",
    "GroupFigures",
    "GroupRow",
    "error_rate_bins",
    "length_bins",
]

LENGTHS = (50, 75, 100, 150, 200, 300, 500, 1_000, 2_000, 5_000, 10_000)
"""Where bins of lengths begin, in bases."""
ERROR_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Where bins of error rates begin, in errors a base."""
STRANDS = ("+", "-")


@dataclass(frozen=True, slots=True)
class GroupRow:
    """The reads of one group.

    Attributes:
        name: for people, as in ``100 to 149 bp``.
        reads: in the group.
        called: at any taxon below the root.
        correct: called at their own class's taxon.
        accuracy: share of the reads whose likeliest class is their own, refused or not.
        precision: correct of those correct or wrong (calls above the true taxon are neither); ``None`` of none.
        sensitivity: correct of all reads.
    """

    name: str
    reads: int
    called: int
    correct: int
    accuracy: float
    precision: float | None
    sensitivity: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON, ``None`` for what is undefined."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """One way to group the reads: ``length``, ``error rate`` or ``strand``; groups without reads are left out."""

    kind: str
    rows: tuple[GroupRow, ...]


@dataclass(frozen=True)
class Bins:
    """Bins of a quantity, the first from nothing on and the last without an end.

    Attributes:
        edges: where the second and each later bin begins, ascending.
        names: of the bins, one more than edges.
    """

    edges: tuple[float, ...]
    names: tuple[str, ...]

    def places(self, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The bin of each value, -1 for one that is not a number; ``(reads,)``."""
        found = np.searchsorted(np.array(self.edges), values, "right").astype(np.int64)
        return np.where(np.isnan(values.astype(np.float64)), -1, found)


def length_bins(edges: Sequence[int] = LENGTHS) -> Bins:
    """Bins of lengths in bases."""
    between = [f"{low:,} to {high - 1:,} bp" for low, high in itertools.pairwise(edges)]
    return Bins(tuple(edges), (f"under {edges[0]:,} bp", *between, f"{edges[-1]:,} bp and more"))


def error_rate_bins(edges: Sequence[float] = ERROR_RATES) -> Bins:
    """Bins of errors a base; none at all has its own."""
    between = [f"{low:.1%} to {high:.1%}" for low, high in itertools.pairwise(edges)]
    names = ("none", f"under {edges[0]:.1%}", *between, f"{edges[-1]:.1%} and more")
    return Bins((np.nextafter(0.0, 1.0), *edges), names)


class GroupCounts:
    """Counts by group, block by block; nothing is kept of a read.

    Args:
        kind: ``length``, ``error rate`` or ``strand``.
        names: of the groups.
    """

    def __init__(self, kind: str, names: Sequence[str]) -> None:
        self.kind = kind
        self.names = tuple(names)
        self._counts = np.zeros((len(names), len(_COUNTED)), np.int64)

    def add(
        self,
        places: npt.NDArray[np.int64],
        *,
        likeliest: npt.NDArray[np.bool_],
        called: npt.NDArray[np.bool_],
        correct: npt.NDArray[np.bool_],
        vague: npt.NDArray[np.bool_],
    ) -> None:
        """Count a block's reads.

        Args:
            places: the group of each read, -1 for none; ``(reads,)``.
            likeliest: whether the likeliest class is the read's own; ``(reads,)``.
            called: whether the read is called; ``(reads,)``.
            correct: whether it is called at its class's taxon; ``(reads,)``.
            vague: whether it is called above that; ``(reads,)``.
        """
        kept = places >= 0
        for column, counted in enumerate((np.ones(len(places), np.bool_), likeliest, called, correct, vague)):
            self._counts[:, column] += np.bincount(places[kept & counted], minlength=len(self.names))

    def figures(self) -> GroupFigures | None:
        """The figures of groups that have reads; ``None`` where none has."""
        rows = []
        for name, (reads, likeliest, called, correct, vague) in zip(self.names, self._counts.tolist(), strict=True):
            if reads:
                wrong = called - correct - vague
                figures = call_figures(correct=correct, vague=vague, wrong=wrong, unclassified=reads - called)
                rows.append(
                    GroupRow(
                        name,
                        reads,
                        called,
                        correct,
                        share(likeliest, reads) or 0.0,
                        figures.precision,
                        figures.sensitivity or 0.0,
                    )
                )
        return GroupFigures(self.kind, tuple(rows)) if rows else None


_COUNTED = ("reads", "likeliest", "called", "correct", "vague")
