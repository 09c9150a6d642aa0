"""What an evaluation counts while reads go by: of every read no more than a few numbers stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.calibrated import Calibrator
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.metrics.auroc import one_vs_rest_auroc
from metagene_classifier.metrics.calibration import Reliability, reliability
from metagene_classifier.metrics.calls import CallCounts
from metagene_classifier.metrics.classification import ClassificationMetrics, check_numbers, metrics_of_calls
from metagene_classifier.metrics.groups import STRANDS, GroupCounts, GroupFigures, error_rate_bins, length_bins
from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.calling import Caller, Units
from metagene_classifier.prediction.kraken_calls import ReadKeys
from metagene_classifier.reads.origins import expected_error_rates, origin_of
from metagene_classifier.reads.read import Read

__all__ = ["AUROC_VALUES", "EvaluationTally", "ReadReliability"]

AUROC_VALUES = 2**29
"""Probabilities that are kept for the areas under the curves, 2 GiB; they are of all reads and all classes."""
ORIENTATIONS = ("as in the file", "reverse complement")

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ReadReliability:
    """How far confidence is to be believed, of the likeliest class of every read that has a base.

    Attributes:
        before: of the plain softmax.
        after: of the model's calibrated probabilities; ``None`` where it is not calibrated.
    """

    before: Reliability
    after: Reliability | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        sides = {"before": self.before, "after": self.after}
        return {
            **{f"ece_{name}": None if side is None else side.ece for name, side in sides.items()},
            **{
                name: None
                if side is None
                else {part: getattr(side, part).tolist() for part in ("edges", "reads", "confidence", "accuracy")}
                for name, side in sides.items()
            },
        }


class EvaluationTally:
    """Counts and figures of called units, block by block.

    Args:
        caller: that calls them.
        compute_auroc: keep the probabilities that the areas under the curves need.
        keep_keys: keep the reads' ids, to find another classifier's calls by.
        both_strands: reverse complements are given as well.
    """

    def __init__(self, caller: Caller, *, compute_auroc: bool, keep_keys: bool, both_strands: bool) -> None:
        self._caller = caller
        self._plain = Calibrator(None)
        self.counts = CallCounts(len(caller.tree))
        self.reasons: Counter[str] = Counter()
        self.without_base = 0
        self.keys = ReadKeys() if keep_keys else None
        self._truth: list[Int64s] = []
        self._known: list[Bools] = []
        self._best: list[Int64s] = []
        self._likelihood: list[npt.NDArray[np.float32]] = []
        self._confidence: list[npt.NDArray[np.float32]] = []
        self._calibrated: list[npt.NDArray[np.float32]] = []
        self._kept: list[npt.NDArray[np.float32]] = []
        self._no_auroc = None if compute_auroc else "not computed"
        self._values = 0
        self._units = 0
        self._lengths, self._rates = length_bins(), error_rate_bins()
        self._by_length = GroupCounts("length", self._lengths.names)
        self._by_rate = GroupCounts("error rate", self._rates.names)
        self._by_strand = GroupCounts("strand", ORIENTATIONS if both_strands else STRANDS)
        self._both_strands = both_strands

    def add(self, units: Units, calls: Sequence[Call], truth: Int64s) -> None:
        """Count a block's units.

        Args:
            units: their scores.
            calls: of them.
            truth: class of each; ``(units,)``.

        Raises:
            DataError: scores are not numbers.
        """
        plain = self._plain.probabilities(units.scores, units.tokens)
        check_numbers(plain, self._units + 1)
        best = plain.argmax(axis=1)
        taxa = np.fromiter((call.taxon for call in calls), np.int64, len(calls))
        known, rows = units.has_base, np.arange(len(calls))
        self.counts.add(truth, taxa)
        self.reasons.update(call.reason for call in calls if not call.taxon)
        self.without_base += int((~known).sum())
        if self.keys is not None:
            for call in calls:
                self.keys.add(call.read_id)
        self._truth.append(truth)
        self._known.append(known)
        self._best.append(best)
        self._likelihood.append(plain[rows, truth])
        self._confidence.append(plain[rows, best])
        if self._caller.calibrator.calibrated:
            self._calibrated.append(np.array([call.probabilities.max() for call in calls], np.float32))
        self._keep(plain[known])
        self._units += len(calls)
        outcome = self._outcome(best, taxa, truth, known)
        lengths = np.fromiter((call.length_bp for call in calls), np.int64, len(calls))
        self._by_length.add(self._lengths.places(lengths), **outcome)
        rates, strands = _rates_and_strands([call.reads for call in calls])
        self._by_rate.add(self._rates.places(rates), **outcome)
        self._by_strand.add(np.zeros(len(calls), np.int64) if self._both_strands else strands, **outcome)

    def add_reversed(self, units: Units, calls: Sequence[Call], truth: Int64s) -> None:
        """Count the reverse complements of units that were counted already; for the strands alone."""
        best = units.scores.argmax(axis=1)
        taxa = np.fromiter((call.taxon for call in calls), np.int64, len(calls))
        outcome = self._outcome(best, taxa, truth, units.has_base)
        self._by_strand.add(np.ones(len(calls), np.int64), **outcome)

    def truth(self) -> Int64s:
        """Class of every unit; ``(units,)``."""
        return np.concatenate(self._truth) if self._truth else np.zeros(0, np.int64)

    def metrics(self) -> ClassificationMetrics:
        """The figures of the likeliest classes, refused or not, of all units with a base.

        Raises:
            DataError: there are none.
        """
        known = self._joined(self._known).astype(np.bool_)
        truth, best = self.truth()[known], self._joined(self._best)[known]
        areas = None
        if self._no_auroc is None and self._kept:
            areas = one_vs_rest_auroc(truth, np.concatenate(self._kept))
        return metrics_of_calls(
            truth,
            best,
            self._joined(self._likelihood)[known],
            self._caller.labels.names,
            areas=areas,
            areas_undefined=self._no_auroc,
        )

    def reliability(self) -> ReadReliability:
        """Confidence and accuracy of the likeliest classes of all units with a base."""
        known = self._joined(self._known).astype(np.bool_)
        right = (self._joined(self._best) == self.truth())[known]
        after = None
        if self._caller.calibrator.calibrated:
            after = reliability(self._joined(self._calibrated)[known], right)
        return ReadReliability(reliability(self._joined(self._confidence)[known], right), after)

    def groups(self) -> tuple[GroupFigures, ...]:
        """By length, error rate and strand, as far as they are known."""
        found = (counts.figures() for counts in (self._by_length, self._by_rate, self._by_strand))
        return tuple(figures for figures in found if figures is not None)

    def _keep(self, plain: npt.NDArray[np.float32]) -> None:
        if self._no_auroc is not None:
            return
        self._values += plain.size
        if self._values > AUROC_VALUES:
            self._no_auroc = f"more than {AUROC_VALUES:,} probabilities (reads x classes): evaluate fewer reads for it"
            self._kept.clear()
            return
        self._kept.append(plain)

    def _outcome(self, best: Int64s, taxa: Int64s, truth: Int64s, known: Bools) -> dict[str, Bools]:
        tree: ClassTree = self._caller.tree
        own = tree.taxon_of_class[truth]
        called, correct = taxa > 0, taxa == own
        return {
            "likeliest": known & (best == truth),
            "called": called,
            "correct": correct,
            "vague": called & ~correct & tree.is_on_lineage(taxa, own),
        }

    @staticmethod
    def _joined(pieces: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.concatenate(pieces) if pieces else np.zeros(0)


def _rates_and_strands(units: Sequence[tuple[Read, ...]]) -> tuple[npt.NDArray[np.float64], Int64s]:
    """Errors a base of each unit, NaN where they are not known, and its strand, -1 where it is not, or is both."""
    reads = [read for unit in units for read in unit]
    bases = np.array([len(read.sequence) for read in reads], np.float64)
    rates = expected_error_rates([read.qualities for read in reads])
    strands = np.full(len(reads), -1, np.int64)
    for place, read in enumerate(reads):
        origin = origin_of(read.header)
        if origin is not None:
            strands[place] = STRANDS.index(origin.strand)
            if origin.errors is not None and bases[place]:
                rates[place] = origin.errors / bases[place]
    if len(reads) == len(units):
        return rates, strands
    errors, total = (rates * bases).reshape(-1, 2).sum(axis=1), bases.reshape(-1, 2).sum(axis=1)
    return errors / np.maximum(total, 1), np.full(len(units), -1, np.int64)
