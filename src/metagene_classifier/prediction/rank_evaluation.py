"""Counted calls against the truth: over all taxa, and at every rank of the taxonomy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.tree import RANKS, ClassTree
from metagene_classifier.metrics.calls import CallCounts, CallFigures, call_figures
from metagene_classifier.metrics.ranks import RankFigures, rank_figures
from metagene_classifier.prediction.formats.cami_profile import UNITS, percentages
from metagene_classifier.prediction.profile.estimate import Profile

__all__ = ["figures_at_ranks", "figures_of_calls", "profile_shares", "taxids_at"]

Int64s = npt.NDArray[np.int64]


def figures_of_calls(counts: CallCounts, tree: ClassTree, taxon_of_call: Int64s | None = None) -> CallFigures:
    """Right, vague and wrong calls.

    Args:
        counts: reads by class and call.
        tree: of the classes.
        taxon_of_call: place in the tree of each call, -1 for one that lies in no class's lineage; a call is its taxon's
            place by default.
    """
    classes, calls, reads = counts.groups()
    called = calls if taxon_of_call is None else taxon_of_call[calls]
    truth = tree.taxon_of_class[classes]
    correct = called == truth
    vague = (called > 0) & ~correct & tree.is_on_lineage(np.maximum(called, 0), truth)
    unclassified = called == 0
    wrong = ~correct & ~vague & ~unclassified
    return call_figures(
        correct=int(reads[correct].sum()),
        vague=int(reads[vague].sum()),
        wrong=int(reads[wrong].sum()),
        unclassified=int(reads[unclassified].sum()),
    )


def taxids_at(tree: ClassTree, rank: str) -> Int64s:
    """For each taxon of a tree the taxid of its ancestor, or itself, at a rank; -1 where there is none. ``(taxa,)``."""
    places = tree.at_rank(rank)
    taxids = np.array([taxon.taxid or -1 for taxon in tree.taxa], np.int64)
    return np.where(places >= 0, taxids[np.maximum(places, 0)], -1)


def figures_at_ranks(
    counts: CallCounts,
    tree: ClassTree,
    *,
    taxid_of_call: Mapping[str, Int64s],
    is_call: npt.NDArray[np.bool_],
    estimated: Mapping[str, Mapping[int, float]] | None = None,
) -> tuple[RankFigures, ...]:
    """The figures of every rank at which some class with reads has a taxon, from the top down; none without ranks.

    Args:
        counts: reads by class and call.
        tree: of the classes.
        taxid_of_call: at each rank the taxid of each call, -1 where it has none; ``(calls,)``.
        is_call: whether a call is one, and not ``unclassified``; ``(calls,)``.
        estimated: at each rank the shares of taxids in an estimated profile.
    """
    if not tree.has_taxonomy:
        return ()
    classes, calls, reads = counts.groups()
    found = []
    for rank in RANKS:
        figures = rank_figures(
            rank,
            taxids_at(tree, rank)[tree.taxon_of_class[classes]],
            taxid_of_call[rank][calls],
            is_call[calls],
            reads,
            estimated=None if estimated is None else estimated.get(rank, {}),
        )
        if figures is not None:
            found.append(figures)
    return tuple(found)


def profile_shares(profile: Profile, tree: ClassTree) -> dict[str, dict[int, float]]:
    """At each rank the shares of taxids, as a file of the profile for CAMI's tools has them.

    Shares that are too small for the file are 0, so that they do not count as taxa found.
    """
    found = {}
    for rank in RANKS:
        at = tree.at_rank(rank)
        rows = [row for row in profile.rows if at[row.taxon] == row.taxon and row.taxid is not None]
        units = percentages([row.abundance for row in rows])
        found[rank] = {row.taxid or 0: unit / (100 * UNITS) for row, unit in zip(rows, units, strict=True)}
    return found
