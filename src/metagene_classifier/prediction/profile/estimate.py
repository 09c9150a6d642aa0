"""A sample's profile: what its counted calls say of the organisms in it, and how surely.

Where the model knows its confusions, the shares of the classes are those under which the calls are likeliest
(:mod:`.mixture`), so that what is systematically called something else is counted where it belongs; organisms that the
model has never seen have a share of their own where it was measured what reads of left-out taxa are called. Otherwise
shares are those of the called reads. Intervals are by resampling: the calls are drawn again (bootstrap), and so are the
rates of calls, from what the counted confusions leave possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.confusion import Confusion
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.errors import ModelFolderError
from metagene_classifier.prediction.profile.clades import clade_sums
from metagene_classifier.prediction.profile.diversity import Diversity, diversity, species_of_taxa
from metagene_classifier.prediction.profile.genome_lengths import lengths_of_taxa
from metagene_classifier.prediction.profile.mixture import Mixture, fit_mixture
from metagene_classifier.prediction.profile.rates import CallRates, call_rates, fit_concentrations
from metagene_classifier.prediction.profile.tally import SampleTally

__all__ = ["Profile", "ProfileRow", "estimate_profile"]

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

INTERVAL = (2.5, 97.5)
MISFIT = 0.05
"""Share of calls that must be made otherwise than the model's confusions allow, before a profile says so."""
MANY_UNKNOWN = 0.1
FEW_VALIDATION_READS = 50
"""Of a class on average, over the sample; below, a profile says that its intervals may be too narrow."""
SAY_NOTHING = ("no bases", "too short", "low complexity")
"""Reasons for being unclassified that say nothing of the organism."""


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One taxon of a sample, with everything below it.

    Attributes:
        taxon: place in the tree.
        taxid: of NCBI, where it has one.
        name: the label of a class, or the taxon's name.
        rank: empty without a taxonomy.
        lineage: names from below the root to the taxon, ``;`` between them.
        reads: called at the taxon or below it.
        direct: called at the taxon itself.
        abundance: estimated share of the sample, 0 to 1.
        low: end of the 95% interval from below; ``None`` without a bootstrap.
        high: end of it from above.
    """

    taxon: int
    taxid: int | None
    name: str
    rank: str
    lineage: str
    reads: int
    direct: int
    abundance: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Profile:
    """What is in a sample.

    Attributes:
        sample: its name.
        rows: taxa with reads or abundance, parents before their children, the larger of siblings first.
        reads: of the sample, called or not.
        unclassified: reads that are called nothing.
        unknown: estimated share of organisms that the model has never seen; ``None`` where it cannot tell. With it the
            abundances of the classes add up to 1.
        shannon: natural logarithms, over species (classes without a taxonomy); ``None`` where nothing was called.
        simpson: chance that two reads are of different species; ``None`` likewise.
        richness: species with at least half an estimated read.
        method: ``em`` where confusions were corrected, or ``counts``.
        warnings: a line each.
    """

    sample: str
    rows: tuple[ProfileRow, ...]
    reads: int
    unclassified: int
    unknown: float | None
    shannon: float | None
    simpson: float | None
    richness: int
    method: Literal["em", "counts"]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Shares:
    """Shares at the taxa themselves, of the sample as it is and of samples drawn again.

    ``of_taxa`` is ``(1 + bootstraps, taxa)``; ``unknown`` is of the sample as it is.
    """

    of_taxa: Floats
    unknown: float | None
    warnings: tuple[str, ...] = ()


def estimate_profile(
    sample: str,
    tally: SampleTally,
    tree: ClassTree,
    confusion: Confusion | None,
    *,
    bootstraps: int = 100,
    seed: int = 0,
    genome_lengths: Mapping[int, int] | None = None,
    default_cut_offs: bool = True,
) -> Profile:
    """Estimate a sample's profile.

    Args:
        sample: its name.
        tally: its calls.
        tree: of the model's classes.
        confusion: of the model; ``None`` for shares of the called reads.
        bootstraps: samples drawn again for the intervals; 0 for no intervals.
        seed: of the drawing; the same gives the same intervals.
        genome_lengths: in bases by place in the tree, for shares of cells instead of reads.
        default_cut_offs: whether reads were refused as they were when the confusions were counted. If not, how many
            reads are unclassified says nothing of what they are, and only the called ones are fitted.

    Raises:
        ModelFolderError: the confusions are of another model.
    """
    if confusion is not None and confusion.classes != len(tree.labels):
        raise ModelFolderError(
            f"the confusions are of {confusion.classes:,} classes and the model has {len(tree.labels):,}: copy the "
            "model again"
        )
    measured = confusion is not None and int(confusion.counts.sum()) > 0
    if confusion is not None and measured:
        shares = _by_mixture(tally, tree, confusion, bootstraps, seed, default_cut_offs)
    else:
        shares = _by_counts(tally, bootstraps, seed)
    of_taxa, warnings = shares.of_taxa, list(shares.warnings)
    if genome_lengths:
        lengths, known = lengths_of_taxa(genome_lengths, tree)
        lacking = np.flatnonzero((of_taxa[0] > 0) & ~known)
        if len(lacking):
            warnings.append(_without_length(tree, of_taxa[0], lacking))
        of_taxa = _cells(of_taxa, lengths)
    below = clade_sums(of_taxa, tree)
    low, high = _interval(below) if len(below) > 1 else (None, None)
    rows = tuple(_rows(tally, tree, below[0], low, high))
    found = _diversity(of_taxa[0], tree, tally.reads)
    return Profile(
        sample=sample,
        rows=rows,
        reads=tally.reads,
        unclassified=tally.unclassified,
        unknown=shares.unknown,
        shannon=found.shannon,
        simpson=found.simpson,
        richness=found.richness,
        method="em" if measured else "counts",
        warnings=tuple(warnings),
    )


def _by_counts(tally: SampleTally, bootstraps: int, seed: int) -> _Shares:
    """Shares of the called reads."""
    direct = tally.direct.copy()
    direct[0] = 0
    called = int(direct.sum())
    if not called:
        return _Shares(np.zeros((1, len(direct))), None)
    rng = np.random.default_rng(seed)
    counts = [direct, *(_drawn_again(direct, rng) for _ in range(bootstraps))]
    return _Shares(np.stack(counts) / called, None)


def _by_mixture(
    tally: SampleTally, tree: ClassTree, confusion: Confusion, bootstraps: int, seed: int, default_cut_offs: bool
) -> _Shares:
    """Shares under which the calls are likeliest."""
    genera = tree.at_rank("genus")[tree.taxon_of_class]
    _, groups = np.unique(np.where(genera < 0, -1 - np.arange(len(genera)), genera), return_inverse=True)
    concentrations = fit_concentrations(confusion, groups)
    classes = confusion.classes

    def rates_now(rng: np.random.Generator | None) -> CallRates:
        rates = call_rates(confusion, groups, concentrations, rng)
        return rates if default_cut_offs else rates.given_called()

    observed = tally.observed[:classes]
    if default_cut_offs:
        judged = tally.unclassified - sum(tally.reasons[reason] for reason in SAY_NOTHING)
        observed = np.append(observed, judged)
    rates = rates_now(None)
    mixture = fit_mixture(rates, observed)
    if not mixture.reads:
        return _Shares(np.zeros((1, len(tree))), None)
    fits = [mixture.shares]
    rng = np.random.default_rng(seed)
    for _ in range(bootstraps):
        again = fit_mixture(rates_now(rng), _drawn_again(observed, rng), mixture.shares)
        fits.append(again.shares if again.reads else mixture.shares)
    of_taxa = np.zeros((len(fits), len(tree)))
    for row, shares in zip(of_taxa, fits, strict=True):
        np.add.at(row, tree.taxon_of_class, shares[:classes])
    unknown = float(mixture.shares[classes]) if rates.has_unknown else None
    validated = np.asarray(confusion.counts.sum(axis=1)).ravel()[:classes]
    known = mixture.shares[:classes]
    support = float(known @ validated / known.sum()) if known.sum() > 0 else float(validated.mean())
    warnings = tuple(_doubts(tally, observed, mixture, unknown, support, default_cut_offs))
    return _Shares(of_taxa, unknown, warnings)


def _drawn_again(counts: Int64s, rng: np.random.Generator) -> Int64s:
    """As many reads, drawn with replacement from those that were counted."""
    there = np.flatnonzero(counts)
    drawn = np.zeros_like(counts)
    drawn[there] = rng.multinomial(int(counts.sum()), counts[there] / counts.sum())
    return drawn


def _doubts(
    tally: SampleTally,
    observed: Int64s,
    mixture: Mixture,
    unknown: float | None,
    support: float,
    default_cut_offs: bool,
) -> Iterator[str]:
    """Why the corrected abundances may be worse than they look; ``support`` is validation reads of a class."""
    if support < FEW_VALIDATION_READS:
        yield (
            f"the confusions rest on about {support:.0f} validation reads of each class: abundances are rough, and "
            "their intervals may be too narrow; more validation reads (calling.calibration_reads) make better ones"
        )
    if not default_cut_offs:
        yield (
            "the confusions were measured at the model's own cut-offs, and these calls were made at others: abundances "
            "are of the called reads and less exact"
        )
    if tally.pairs:
        yield (
            "the confusions were measured on single reads, and pairs are confused less often: abundances may be "
            "corrected too much"
        )
    if unknown is not None and unknown > MANY_UNKNOWN:
        yield (
            f"about {unknown:.0%} of this sample is of organisms that the model does not know: some of their reads are "
            "called all the same, and not always as those of the left-out taxa were"
        )
    if not mixture.converged:
        yield "the estimate of the abundances did not come to its end: take them for rough"
    shares = observed / max(1, int(observed.sum()))
    by_chance = np.sqrt(2 / np.pi * mixture.expected * (1 - mixture.expected) / mixture.reads).sum() / 2
    misfit = np.abs(shares - mixture.expected).sum() / 2
    if misfit > MISFIT + 2 * by_chance:
        yield (
            f"{misfit:.0%} of the calls do not fit the confusions that were measured: these reads are not like the "
            "validation reads, and the abundances are to be distrusted"
        )


def _cells(of_taxa: Floats, lengths: Floats) -> Floats:
    """Shares of cells: a genome of twice the length has twice the reads. Their sum stays what it was."""
    cells = of_taxa / lengths
    before, after = of_taxa.sum(axis=1, keepdims=True), cells.sum(axis=1, keepdims=True)
    scaled: Floats = cells * np.divide(before, after, out=np.zeros_like(after), where=after > 0)
    return scaled


def _without_length(tree: ClassTree, shares: Floats, lacking: Int64s) -> str:
    largest = sorted(lacking.tolist(), key=lambda taxon: -shares[taxon])
    named = ", ".join(tree.label_of(taxon) for taxon in largest[:3])
    more = f" and {len(largest) - 3:,} more" if len(largest) > 3 else ""
    return f"no genome length is given for {named}{more}: the mean of the others is taken"


def _interval(below: Floats) -> tuple[Floats, Floats]:
    """Ends of the intervals, by the samples drawn again; they hold the estimate itself."""
    low, high = np.percentile(below[1:], INTERVAL, axis=0)
    return np.minimum(low, below[0]), np.maximum(high, below[0])


def _rows(
    tally: SampleTally, tree: ClassTree, abundance: Floats, low: Floats | None, high: Floats | None
) -> Iterator[ProfileRow]:
    """Taxa with anything, each followed by those below it, the larger of siblings first."""
    reads = tally.clade(tree)
    children: dict[int, list[int]] = {}
    for taxon in (np.flatnonzero((reads[1:] > 0) | (abundance[1:] > 0)) + 1).tolist():
        children.setdefault(int(tree.parents[taxon]), []).append(taxon)
    stack = [0]
    while stack:
        taxon = stack.pop()
        # The smallest goes onto the stack first.
        stack += sorted(children.get(taxon, []), key=lambda one: (abundance[one], reads[one], -one))
        if taxon:
            yield ProfileRow(
                taxon=taxon,
                taxid=tree.taxa[taxon].taxid,
                name=tree.label_of(taxon),
                rank=tree.taxa[taxon].rank,
                lineage=tree.lineage_names(taxon),
                reads=int(reads[taxon]),
                direct=int(tally.direct[taxon]),
                abundance=float(abundance[taxon]),
                low=None if low is None else float(low[taxon]),
                high=None if high is None else float(high[taxon]),
            )


def _diversity(own: Floats, tree: ClassTree, reads: int) -> Diversity:
    """Over species, from shares at the taxa themselves; what is at no species is left out."""
    species = species_of_taxa(tree)
    of_species = np.zeros(len(tree))
    there = species >= 0
    np.add.at(of_species, species[there], own[there])
    return diversity(of_species[of_species > 0] * reads)
