"""Calls that may be refused, or made at a higher taxon, counted against the truth."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CallCounts", "CallFigures", "call_figures", "harmonic_mean", "share"]

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CallFigures:
    """How many reads were called, and how many of them rightly.

    Counted as in the paper of Kraken 2 (Wood et al. 2019, doi:10.1186/s13059-019-1891-0): a call above the true taxon
    is vague. It is no success, and no false call either.

    Attributes:
        reads: all, called or not.
        called: at any taxon below the root.
        correct: called at their own class's taxon.
        vague: called at a taxon above it.
        wrong: called at any other.
        unclassified: not called.
        precision: correct of those correct or wrong; ``None`` where there are none.
        sensitivity: correct of all reads; ``None`` without reads.
        f1: harmonic mean of the two; ``None`` where one of them is.
    """

    reads: int
    called: int
    correct: int
    vague: int
    wrong: int
    unclassified: int
    precision: float | None
    sensitivity: float | None
    f1: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON, ``None`` for what is undefined."""
        return {name: getattr(self, name) for name in self.__slots__}


def call_figures(*, correct: int, vague: int, wrong: int, unclassified: int) -> CallFigures:
    """The figures of counted reads."""
    called = correct + vague + wrong
    reads = called + unclassified
    precision = share(correct, correct + wrong)
    sensitivity = share(correct, reads)
    return CallFigures(
        reads=reads,
        called=called,
        correct=correct,
        vague=vague,
        wrong=wrong,
        unclassified=unclassified,
        precision=precision,
        sensitivity=sensitivity,
        f1=harmonic_mean(precision, sensitivity),
    )


def share(part: float, whole: float) -> float | None:
    """A part of a whole; ``None`` of nothing."""
    return float(part / whole) if whole else None


def harmonic_mean(one: float | None, other: float | None) -> float | None:
    """Of two shares; ``None`` where one is undefined or both are 0, as AMBER and OPAL have it."""
    if one is None or other is None or one + other == 0:
        return None
    return 2 * one * other / (one + other)


class CallCounts:
    """Reads by true class and call; a class is called few of all taxa, so pairs without a read take no memory.

    Args:
        calls: how many different calls there are; a call is a number below.
    """

    def __init__(self, calls: int) -> None:
        self._calls = calls
        self._reads: Counter[int] = Counter()

    def add(self, truth: Int64s, called: Int64s) -> None:
        """Count reads by their class and call, both ``(reads,)``."""
        pairs, reads = np.unique(truth * self._calls + called, return_counts=True)
        self._reads.update(dict(zip(pairs.tolist(), reads.tolist(), strict=True)))

    def groups(self) -> tuple[Int64s, Int64s, Int64s]:
        """Class, call and number of reads of every pair that has any; each ``(groups,)``, in order of the pairs."""
        pairs = np.array(sorted(self._reads), np.int64)
        reads = np.array([self._reads[pair] for pair in pairs.tolist()], np.int64)
        return pairs // self._calls, pairs % self._calls, reads
