"""A sample's calls, counted block by block; what is kept has the size of the tree, not of the sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.profile.clades import clade_sums
from metagene_classifier.prediction.profile.lengths import FINE_EDGES, equal_bins, fine_bins

__all__ = ["CONFIDENCE_BINS", "SampleTally"]

Int64s = npt.NDArray[np.int64]

CONFIDENCE_BINS = 20
_VERSION = 1


class SampleTally:
    """Counts calls; a pair is one call, and counts as one read.

    Args:
        tree: of the model's classes.

    Attributes:
        direct: reads called at each taxon itself, 0 for unclassified; ``(taxa,)``.
        observed: classified reads by their likeliest class, then unclassified ones; ``(classes + 1,)``.
        reads: all of them, a pair being one.
        pairs: those that are pairs.
        bases: as they stand in the files, of both mates.
        reasons: unclassified reads by why they are.
        confidence_counts: all reads by confidence, in 20 bins from 0 to 1; an unclassified read has that of the
            call that it would have had, or of the likeliest taxon where none was sure enough. ``(20,)``
    """

    def __init__(self, tree: ClassTree) -> None:
        self.direct: Int64s = np.zeros(len(tree), np.int64)
        self.observed: Int64s = np.zeros(len(tree.labels) + 1, np.int64)
        self.reads = 0
        self.pairs = 0
        self.bases = 0
        self.reasons: Counter[str] = Counter()
        self.confidence_counts: Int64s = np.zeros(CONFIDENCE_BINS, np.int64)
        self._lengths: Int64s = np.zeros(len(FINE_EDGES), np.int64)

    def add(self, calls: Sequence[Call]) -> None:
        """Count a block of calls in."""
        size = len(calls)
        taxa = np.fromiter((call.taxon for call in calls), np.int64, size)
        best = np.fromiter((call.best_class for call in calls), np.int64, size)
        lengths = np.fromiter((call.length_bp for call in calls), np.int64, size)
        confidence = np.fromiter((call.confidence for call in calls), np.float64, size)
        classes = len(self.observed) - 1
        best = np.where((taxa > 0) & (best >= 0), best, classes)
        bins = np.clip((confidence * CONFIDENCE_BINS).astype(np.int64), 0, CONFIDENCE_BINS - 1)
        self.direct += np.bincount(taxa, minlength=len(self.direct))
        self.observed += np.bincount(best, minlength=classes + 1)
        self.confidence_counts += np.bincount(bins, minlength=CONFIDENCE_BINS)
        self._lengths += np.bincount(fine_bins(lengths), minlength=len(FINE_EDGES))
        self.reads += size
        self.pairs += sum([len(call.reads) == 2 for call in calls])
        self.bases += int(lengths.sum())
        self.reasons.update([call.reason for call in calls if not call.taxon])

    def merge(self, other: SampleTally) -> None:
        """Count in what another tally of the same model has counted.

        Raises:
            ValueError: it is of another model.
        """
        if self.direct.shape != other.direct.shape or self.observed.shape != other.observed.shape:
            raise ValueError("tallies of different models cannot be added")
        self.direct += other.direct
        self.observed += other.observed
        self.confidence_counts += other.confidence_counts
        self._lengths += other._lengths
        self.reads += other.reads
        self.pairs += other.pairs
        self.bases += other.bases
        self.reasons.update(other.reasons)

    @property
    def unclassified(self) -> int:
        """Reads that are called nothing."""
        return int(self.direct[0])

    @property
    def length_edges(self) -> Int64s:
        """Edges of at most 40 bins of equal width, in bases, that hold all reads; ``(bins + 1,)``."""
        return equal_bins(self._lengths)[0]

    @property
    def length_counts(self) -> Int64s:
        """Reads in the bins of :attr:`length_edges`; ``(bins,)``."""
        return equal_bins(self._lengths)[1]

    def clade(self, tree: ClassTree) -> Int64s:
        """Reads called at each taxon or below it; at the root all that are classified. ``(taxa,)``."""
        called = self.direct.copy()
        called[0] = 0
        return clade_sums(called, tree)

    def as_json(self) -> dict[str, Any]:
        """Plain numbers, of the counts only those that are not zero."""
        return {
            "version": _VERSION,
            "direct": _sparse(self.direct),
            "observed": _sparse(self.observed),
            "reads": self.reads,
            "pairs": self.pairs,
            "bases": self.bases,
            "reasons": {reason: count for reason, count in sorted(self.reasons.items()) if count},
            "confidence": _sparse(self.confidence_counts),
            "lengths": _sparse(self._lengths),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], tree: ClassTree) -> SampleTally:
        """What :meth:`as_json` gave.

        Raises:
            ValueError: it is nothing of the kind, or of another model.
        """
        found = cls(tree)
        try:
            if values["version"] != _VERSION:
                raise ValueError(f"a tally of version {values['version']}")
            for counts, name in (
                (found.direct, "direct"),
                (found.observed, "observed"),
                (found.confidence_counts, "confidence"),
                (found._lengths, "lengths"),
            ):
                counts[:] = _dense(values[name], len(counts))
            found.reads, found.pairs, found.bases = (_count(values[name]) for name in ("reads", "pairs", "bases"))
            found.reasons.update({str(reason): _count(count) for reason, count in values["reasons"].items()})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no tally: {error}") from error
        sums = {int(one.sum()) for one in (found.direct, found.observed, found.confidence_counts, found._lengths)}
        if sums != {found.reads} or sum(found.reasons.values()) != found.unclassified:
            raise ValueError("a tally whose counts do not add up")
        return found


def _sparse(counts: Int64s) -> list[list[int]]:
    """Places and counts of what is not zero."""
    places = np.flatnonzero(counts)
    return [places.tolist(), counts[places].tolist()]


def _dense(sparse: Any, size: int) -> Int64s:
    places, counts = sparse
    found = np.zeros(size, np.int64)
    for place, count in zip(places, counts, strict=True):
        if not 0 <= _count(place) < size:
            raise ValueError("a tally of another model")
        found[place] = _count(count)
    return found


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value
