"""From scored blocks to calls: calibrated probabilities, pairs, the rule over ranks, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import add
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.calibrated import Calibrator
from metagene_classifier.calling.rule import Decisions, decide, likeliest
from metagene_classifier.calling.temperature import summed
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.errors import ConfigError
from metagene_classifier.model.description import ModelDescription
from metagene_classifier.model.saved import LoadedModel
from metagene_classifier.prediction.call import Call, Hit, WindowCall
from metagene_classifier.prediction.scorer import ScoredBlock
from metagene_classifier.reads.labels import UNCLASSIFIED, Labels
from metagene_classifier.reads.pairs import pair_id
from metagene_classifier.reads.read import Read
from metagene_classifier.reads.taxonomy import Taxonomy

__all__ = ["REASONS", "CallOptions", "Caller", "Units", "caller_for", "caller_of", "check_cut_offs"]

REASONS = ("", "no bases", "too short", "low complexity", "not sure enough", "unlike the training reads")
"""Why a read is unclassified; of two mates the reason further down counts."""
HITS_KEPT = 2**16
_NO_BASES, _TOO_SHORT, _LOW_COMPLEXITY, _NOT_SURE, _STRANGE = range(1, len(REASONS))


@dataclass(frozen=True)
class CallOptions:
    """How reads are called.

    Attributes:
        threshold: summed calibrated probability that a taxon must reach; 0 takes the likeliest class.
        refuse: refuse reads that are stranger than the model's cut-off.
        closed_set: every read with a base gets its likeliest class, whatever the threshold.
        min_tokens: reads of fewer are unclassified.
        min_complexity: reads of less are unclassified; 0 for none.
        paired: blocks hold pairs, mates beside each other; a pair gets one call.
        hits: call the windows too; without, :attr:`Call.hits` is empty.
    """

    threshold: float = 0.0
    refuse: bool = True
    closed_set: bool = False
    min_tokens: int = 0
    min_complexity: float = 0.0
    paired: bool = False
    hits: bool = True


@dataclass(frozen=True)
class Units:
    """What gets a call each: reads, or pairs of mates.

    Attributes:
        scores: what a :class:`Calibrator` takes: class scores or, of two mates, summed log-probabilities;
            ``(units, classes)`` float32.
        tokens: of the mates that count; ``(units,)``.
        mates: how many count, 0 where none has a base; ``(units,)``.
        reasons: places in :data:`REASONS` where no mate may be called, else 0; ``(units,)``.
        used: which mates count; ``(units, 1)`` or ``(units, 2)``.
    """

    scores: npt.NDArray[np.float32]
    tokens: npt.NDArray[np.int64]
    mates: npt.NDArray[np.int64]
    reasons: npt.NDArray[np.int64]
    used: npt.NDArray[np.bool_]

    @property
    def has_base(self) -> npt.NDArray[np.bool_]:
        """Whether any mate has a base; ``(units,)``."""
        return self.mates > 0


class Caller:
    """Calls scored reads, or pairs.

    Args:
        labels: the model's classes.
        tree: of them.
        calibrator: of the model.
        options: how reads are called.
    """

    def __init__(self, labels: Labels, tree: ClassTree, calibrator: Calibrator, options: CallOptions) -> None:
        self.labels = labels
        self.tree = tree
        self.calibrator = calibrator
        self.options = options
        self._closed = options.closed_set or options.threshold <= 0
        self._cutoff = calibrator.cutoff if options.refuse and not options.closed_set else None
        self._names = [UNCLASSIFIED, *(tree.label_of(taxon) for taxon in range(1, len(tree)))]
        self._labels = labels.names
        self._taxids = [None, *(taxon.taxid for taxon in tree.taxa[1:])]
        self._ranks = ["", *(taxon.rank for taxon in tree.taxa[1:])]
        self._hits: dict[tuple[int, int], Hit] = {}

    def of_pairs(self, paired: bool) -> Caller:
        """The same for blocks of pairs, or of single reads."""
        if paired == self.options.paired:
            return self
        return Caller(self.labels, self.tree, self.calibrator, replace(self.options, paired=paired))

    def units(self, block: ScoredBlock) -> Units:
        """The scores of a block's reads or pairs.

        A mate that has no base, or that is too short or of too low complexity, does not count beside one that is
        neither; where none is left, those with a base count, for their probabilities alone.
        """
        reasons = self._screened(block)
        if not self.options.paired:
            used = block.bases > 0
            return Units(block.values, block.tokens, used.astype(np.int64), reasons, used[:, None])
        good = (reasons == 0).reshape(-1, 2)
        called = good.any(axis=1)
        used = np.where(called[:, None], good, (block.bases > 0).reshape(-1, 2))
        mates = used.sum(axis=1)
        two = mates == 2
        scores = block.values[0::2].copy()
        alone = used[:, 1] & ~two
        scores[alone] = block.values[1::2][alone]
        if two.any():
            scores[two] = summed(block.values[0::2][two], block.values[1::2][two])
        tokens = np.where(used, block.tokens.reshape(-1, 2), 0).sum(axis=1)
        return Units(scores, tokens, mates, np.where(called, 0, reasons.reshape(-1, 2).max(axis=1)), used)

    def probabilities(self, units: Units) -> npt.NDArray[np.float32]:
        """Calibrated; zeros where no mate has a base. ``(units, classes)``."""
        found = np.zeros(units.scores.shape, np.float32)
        for mates in (1, 2):
            rows = np.flatnonzero(units.mates == mates)
            if len(rows) == len(found) and len(rows):
                return self.calibrator.probabilities(units.scores, units.tokens, mates=mates)
            if len(rows):
                found[rows] = self.calibrator.probabilities(units.scores[rows], units.tokens[rows], mates=mates)
        return found

    def calls(self, block: ScoredBlock) -> list[Call]:
        """A call for each read or pair of a block, in order."""
        units = self.units(block)
        probabilities = self.probabilities(units)
        best = np.where(units.has_base, probabilities.argmax(axis=1), -1)
        decisions = self._decide(probabilities)
        reasons = self._reasons(block, units, decisions)
        taxa = np.where(reasons == 0, decisions.taxa, 0)
        confidence = np.where(units.has_base, decisions.confidence, 0.0)
        places, winners = taxa.tolist(), best.tolist()
        return list(
            map(
                Call,
                self._ids_of(block),
                self._named(places, winners),
                map(self._taxids.__getitem__, places),
                map(self._ranks.__getitem__, places),
                confidence.tolist(),
                self._lengths_of(block),
                map(REASONS.__getitem__, reasons.tolist()),
                probabilities,
                places,
                winners,
                self._reads_of(block),
                self._hits_of(block, taxa),
            )
        )

    def window_calls(self, block: ScoredBlock) -> list[WindowCall]:
        """A call for each window of a block's reads, in order; none for a read without a base.

        A window is called as a read by itself is: its own probability, the same threshold and refusal.
        """
        taxa, confidence, best = self._windows(block)
        names = self._named(taxa, best)
        spans = block.window_spans.tolist()
        found = []
        place = 0
        for number, (read, count) in enumerate(zip(block.reads, block.window_counts.tolist(), strict=True)):
            read_id = pair_id(read) if self.options.paired else read.id
            mate = 1 + number % 2 if self.options.paired else 1
            for window in range(1, count + 1):
                taxon = taxa[place]
                start, end = spans[place]
                taxid, rank, sure = self._taxids[taxon], self._ranks[taxon], confidence[place]
                found.append(WindowCall(read_id, mate, window, start, end, names[place], taxid, rank, sure))
                place += 1
        return found

    def _screened(self, block: ScoredBlock) -> npt.NDArray[np.int64]:
        """Why each read, whatever its scores, is not called; 0 where it may be. ``(reads,)``."""
        reasons = np.zeros(len(block.reads), np.int64)
        if self.options.min_complexity > 0 and block.complexity is not None:
            reasons[block.complexity < self.options.min_complexity] = _LOW_COMPLEXITY  # of no triplet it is NaN
        reasons[block.tokens < self.options.min_tokens] = _TOO_SHORT
        reasons[block.bases == 0] = _NO_BASES
        return reasons

    def _decide(self, probabilities: npt.NDArray[np.float32]) -> Decisions:
        if self._closed:
            return likeliest(probabilities, self.tree)
        return decide(probabilities, self.tree, self.options.threshold)

    def _reasons(self, block: ScoredBlock, units: Units, decisions: Decisions) -> npt.NDArray[np.int64]:
        """Why each unit is unclassified; 0 where it is not."""
        reasons = units.reasons.copy()
        reasons[(reasons == 0) & (decisions.taxa == 0)] = _NOT_SURE
        if self._cutoff is not None:
            novelty = self.calibrator.novelty(block.values, block.extra, tokens=block.tokens)
            if novelty is not None:
                of_mates = np.where(units.used, novelty.reshape(units.used.shape), 0.0)
                mean = of_mates.sum(axis=1) / np.maximum(units.mates, 1)
                reasons[(reasons == 0) & (mean > self._cutoff)] = _STRANGE
        return reasons

    def _named(self, taxa: list[int], best: list[int]) -> list[str]:
        """What taxa are called; of classes that share one, in a closed set, the likeliest gives its own label."""
        if not self._closed:
            return [self._names[taxon] for taxon in taxa]
        labels = self._labels
        return [labels[winner] if taxon else UNCLASSIFIED for taxon, winner in zip(taxa, best, strict=True)]

    def _ids_of(self, block: ScoredBlock) -> list[str]:
        return (
            [pair_id(read) for read in block.reads[0::2]] if self.options.paired else [read.id for read in block.reads]
        )

    def _lengths_of(self, block: ScoredBlock) -> list[int]:
        lengths = [len(read.sequence) for read in block.reads]
        return lengths if not self.options.paired else list(map(add, lengths[0::2], lengths[1::2]))

    def _reads_of(self, block: ScoredBlock) -> list[tuple[Read, ...]]:
        if not self.options.paired:
            return list(zip(block.reads))
        return list(zip(block.reads[0::2], block.reads[1::2], strict=True))

    def _windows(self, block: ScoredBlock) -> tuple[list[int], list[float], list[int]]:
        """Taxon, confidence and likeliest class of each window."""
        scores = block.window_values
        if not len(scores):
            return [], [], []
        probabilities = self.calibrator.probabilities(scores, block.window_tokens)
        decisions = self._decide(probabilities)
        refused = np.repeat(self._screened(block) > 0, block.window_counts)
        if self._cutoff is not None:
            novelty = self.calibrator.novelty(scores, block.window_extra, tokens=block.window_tokens)
            if novelty is not None:
                refused |= novelty > self._cutoff
        taxa = np.where(refused, 0, decisions.taxa)
        return taxa.tolist(), decisions.confidence.tolist(), probabilities.argmax(axis=1).tolist()

    def _hits_of(self, block: ScoredBlock, called: npt.NDArray[np.int64]) -> list[tuple[tuple[Hit, ...], ...]]:
        """Hits of each unit's mates; ``called`` are the taxa of the units."""
        mates = 2 if self.options.paired else 1
        if not self.options.hits:
            return [()] * (len(block.reads) // mates)
        if mates == 1 and block.window_counts.max(initial=0) <= 1:
            # A read of one window is that window.
            taxa = called[block.window_counts > 0].tolist()
        else:
            taxa, _, _ = self._windows(block)
        hits = [self._hit(taxon, tokens) for taxon, tokens in zip(taxa, block.window_tokens.tolist(), strict=True)]
        ends = [0, *np.cumsum(block.window_counts).tolist()]
        of_reads = [tuple(hits[begin:end]) for begin, end in pairwise(ends)]
        if mates == 1:
            return list(zip(of_reads))
        return list(zip(of_reads[0::2], of_reads[1::2], strict=True))

    def _hit(self, taxon: int, tokens: int) -> Hit:
        # Millions of windows have the same few values.
        found = self._hits.get((taxon, tokens))
        if found is None:
            if len(self._hits) >= HITS_KEPT:
                self._hits.clear()
            found = self._hits[taxon, tokens] = Hit(self._taxids[taxon] or 0, tokens)
        return found


def caller_of(
    model: LoadedModel,
    *,
    confidence: float | None = None,
    target_precision: float | None = None,
    closed_set: bool = False,
    min_tokens: int | None = None,
    paired: bool = False,
    hits: bool = True,
    taxonomy: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Caller:
    """What calls the reads of a model; see :func:`caller_for`."""
    return caller_for(
        model.description,
        model.taxonomy,
        confidence=confidence,
        target_precision=target_precision,
        closed_set=closed_set,
        min_tokens=min_tokens,
        paired=paired,
        hits=hits,
        taxonomy=taxonomy,
        tell=tell,
    )


def caller_for(
    description: ModelDescription,
    own_taxonomy: Taxonomy | None,
    *,
    confidence: float | None,
    target_precision: float | None,
    closed_set: bool,
    min_tokens: int | None,
    paired: bool,
    hits: bool,
    taxonomy: Path | None,
    tell: Callable[[str], None],
) -> Caller:
    """What calls the reads of a model; its weights are not needed.

    Args:
        description: of the model.
        own_taxonomy: that it was saved with.
        confidence: cut-off on the calibrated probability; the model's own by default.
        target_precision: instead of it, the precision that the cut-off gave on the validation reads.
        closed_set: give every read with a base its likeliest class.
        min_tokens: reads of fewer are unclassified; the model's own number by default, none in a closed set.
        paired: blocks hold pairs.
        hits: call the windows too.
        taxonomy: folder of a dump, instead of the model's own taxonomy.
        tell: called with lines for the user.

    Raises:
        ConfigError: options that do not go together, or a precision that was never reached.
        DataError: the taxonomy cannot be read.
    """
    check_cut_offs(confidence, target_precision, closed_set)
    labels = description.label_table()
    calibrator = Calibrator(description.calibration)
    threshold = calibrator.threshold if confidence is None else confidence
    if target_precision is not None:
        threshold = calibrator.threshold_for(target_precision)
    facts = description.calling
    if min_tokens is None:
        min_tokens = 0 if closed_set else facts.min_tokens
    options = CallOptions(
        threshold=0.0 if closed_set else threshold,
        refuse=not closed_set,
        closed_set=closed_set,
        min_tokens=min_tokens,
        min_complexity=0.0 if closed_set else facts.min_complexity,
        paired=paired,
        hits=hits,
    )
    if taxonomy is not None:
        own_taxonomy = Taxonomy.read(taxonomy, [taxid for taxid in labels.taxids if taxid is not None])
        for line in own_taxonomy.faults(labels):
            tell(line)
    return Caller(labels, ClassTree.of(labels, own_taxonomy), calibrator, options)


def check_cut_offs(confidence: float | None, target_precision: float | None, closed_set: bool) -> None:
    """Refuse two ways at once to say how sure a call must be, and what is no share.

    Raises:
        ConfigError: there are two, or one is below 0, above 1 or no number.
    """
    for option, share in (("--confidence", confidence), ("--target-precision", target_precision)):
        if share is not None and not 0 <= share <= 1:
            raise ConfigError(f"{option} {share}: give a number from 0 to 1")
    given = {
        "--confidence": confidence is not None,
        "--target-precision": target_precision is not None,
        "--closed-set": closed_set,
    }
    named = [option for option, there in given.items() if there]
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)} each say how sure a call must be: give one of them")
