"""Another classifier's calls of the same reads, held against the same truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.tree import RANKS, TOP_RANKS, ClassTree
from metagene_classifier.errors import ConfigError
from metagene_classifier.metrics.calls import CallCounts, CallFigures
from metagene_classifier.metrics.ranks import RankFigures
from metagene_classifier.prediction.kraken_calls import OtherCalls, ReadKeys, match_calls, read_kraken
from metagene_classifier.prediction.rank_evaluation import figures_at_ranks, figures_of_calls
from metagene_classifier.reads.taxonomy import ROOT, Taxonomy

__all__ = ["ComparedFigures", "PlacedCalls", "compare", "place_calls", "read_others"]

Int64s = npt.NDArray[np.int64]
OFF_THE_TREE = -1
SHOWN = 5


@dataclass(frozen=True)
class ComparedFigures:
    """Another classifier on the reads of an evaluation.

    Attributes:
        name: of the classifier.
        source: the file of its calls.
        missing: reads that the file does not have; they count as unclassified.
        extra: records of the file that are none of the reads.
        open: right, vague and wrong calls.
        ranks: figures at every rank; empty without a taxonomy.
        warnings: what a user should know of the comparison.
    """

    name: str
    source: str
    missing: int
    extra: int
    open: CallFigures
    ranks: tuple[RankFigures, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, ``None`` for what is undefined."""
        return {
            "name": self.name,
            "source": self.source,
            "missing": self.missing,
            "extra": self.extra,
            "open": self.open.as_dict(),
            "ranks": [one.as_dict() for one in self.ranks],
        }


def read_others(options: Sequence[str]) -> list[OtherCalls]:
    """The calls that ``--compare NAME=FILE`` names; without a name a classifier is called as its file.

    Raises:
        ConfigError: two have one name.
        DataError: a file is missing or none of Kraken's.
    """
    named: dict[str, Path] = {}
    for option in options:
        name, equals, rest = option.partition("=")
        if not equals or "/" in name or not name.strip() or Path(option).exists():
            name, rest = Path(option).name.split(".")[0] or option, option
        name = name.strip()
        if name in named:
            raise ConfigError(f"--compare: {named[name]} and {rest} are both called {name}: give NAME=FILE")
        named[name] = Path(rest)
    return [read_kraken(path, name) for name, path in named.items()]


@dataclass(frozen=True, eq=False)
class PlacedCalls:
    """Where the different taxids that a classifier calls lie.

    Attributes:
        taxon: place in the tree of the classes; 0 for unclassified, -1 for a taxon that lies in no class's lineage.
            A taxon below a class's counts as that class. ``(calls,)``.
        taxid_at: taxid at each rank, -1 where there is none; ``(calls,)``.
        unknown: whether the taxonomy lacks the taxid; ``(calls,)``.
    """

    taxon: Int64s
    taxid_at: dict[str, Int64s]
    unknown: npt.NDArray[np.bool_]


def place_calls(taxids: Sequence[int], tree: ClassTree, taxonomy: Taxonomy | None) -> PlacedCalls:
    """Place taxids among the classes; merged ones are followed, and the root is no call.

    Args:
        taxids: that are called, 0 for unclassified.
        tree: of the classes.
        taxonomy: that the tree was made of, with what else is known of the taxids.
    """
    place_of = {taxon.taxid: place for place, taxon in enumerate(tree.taxa) if place and taxon.taxid is not None}
    of_classes = set(tree.taxon_of_class.tolist())
    rank_of = dict.fromkeys(TOP_RANKS, RANKS[0]) | {rank: rank for rank in RANKS}
    taxa = np.zeros(len(taxids), np.int64)
    taxid_at = {rank: np.full(len(taxids), -1, np.int64) for rank in RANKS}
    unknown = np.zeros(len(taxids), np.bool_)
    for number, taxid in enumerate(taxids):
        if taxid in (0, ROOT):
            continue
        current = None if taxonomy is None else taxonomy.current(taxid)
        if current == ROOT:
            continue
        if taxonomy is None or current is None:
            taxa[number] = place_of.get(taxid, OFF_THE_TREE)
            unknown[number] = taxa[number] == OFF_THE_TREE
            continue
        lineage = taxonomy.lineage(current)
        for one in lineage:
            rank = rank_of.get(taxonomy[one].rank)
            if rank is not None:
                taxid_at[rank][number] = one
        nearest = next((place_of[one] for one in reversed(lineage) if one in place_of), OFF_THE_TREE)
        taxa[number] = nearest if current in place_of or nearest in of_classes else OFF_THE_TREE
    return PlacedCalls(taxa, taxid_at, unknown)


def compare(
    other: OtherCalls, reads: ReadKeys, truth: Int64s, tree: ClassTree, taxonomy: Taxonomy | None
) -> ComparedFigures:
    """Another classifier's figures on the reads of an evaluation.

    Args:
        other: its calls.
        reads: that were evaluated, in order.
        truth: class of each; ``(reads,)``.
        tree: of the classes.
        taxonomy: that the tree was made of.
    """
    matched = match_calls(reads, other)
    taxids, calls = np.unique(matched.taxids, return_inverse=True)
    placed = place_calls(taxids.tolist(), tree, taxonomy)
    counts = CallCounts(len(taxids))
    counts.add(truth, calls)
    lost = placed.unknown[calls]
    warnings = []
    if matched.missing:
        warnings.append(
            f"{matched.missing:,} of {len(truth):,} reads are not in {other.source}: they count as unclassified"
        )
    if matched.ambiguous:
        warnings.append(
            f"{matched.ambiguous:,} reads share their id with others, of which the file has another number: they are "
            "matched in order"
        )
    if lost.any():
        named = ", ".join(map(str, taxids[placed.unknown][:SHOWN].tolist()))
        more = ", …" if placed.unknown.sum() > SHOWN else ""
        warnings.append(
            f"{lost.sum():,} reads are called with {placed.unknown.sum():,} taxids that the model's taxonomy lacks "
            f"({named}{more}): they count as wrong, and at no rank; --taxonomy DIR (NCBI's nodes.dmp and names.dmp) "
            "places them"
        )
    return ComparedFigures(
        name=other.name,
        source=str(other.source),
        missing=matched.missing,
        extra=matched.extra,
        open=figures_of_calls(counts, tree, placed.taxon),
        ranks=figures_at_ranks(counts, tree, taxid_of_call=placed.taxid_at, is_call=placed.taxon != 0),
        warnings=tuple(f"{other.name}: {line}" for line in warnings),
    )
