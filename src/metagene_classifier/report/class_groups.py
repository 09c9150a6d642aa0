"""Thousands of classes in a few dozen groups, so that a confusion matrix can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.tree import RANKS, ClassTree
from metagene_classifier.report.drawing import shortened

__all__ = ["ClassGroups", "group_classes"]

MOST_GROUPS = 40
# Above this many classes the distances of all pairs would take gigabytes.
MOST_CLUSTERED = 6000
NO_RANK = "without {rank}"


@dataclass(frozen=True, eq=False)
class ClassGroups:
    """Groups of classes that lie side by side.

    Attributes:
        names: of the groups.
        members: of each group its classes, int64.
        rank: that they are taxa of; ``None`` where they were made by confusion.
    """

    names: tuple[str, ...]
    members: tuple[npt.NDArray[np.int64], ...]
    rank: str | None

    @property
    def order(self) -> npt.NDArray[np.int64]:
        """All classes, group after group."""
        return np.concatenate(self.members)

    def summed(self, confusion: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """Counts between groups; ``(groups, groups)``.

        Args:
            confusion: counts, ``(classes, classes)``.
        """
        group = np.empty(len(confusion), np.int64)
        for number, members in enumerate(self.members):
            group[members] = number
        rows, columns = np.nonzero(confusion)
        found = np.zeros((len(self.names),) * 2, np.int64)
        np.add.at(found, (group[rows], group[columns]), confusion[rows, columns])
        return found


def group_classes(
    confusion: npt.NDArray[np.integer[Any]], labels: Sequence[str], tree: ClassTree | None, most: int = MOST_GROUPS
) -> ClassGroups:
    """Put classes into groups: taxa of the lowest rank that has few enough, otherwise classes that are confused.

    Args:
        confusion: counts, ``(classes, classes)``; rows are the truth.
        labels: ``(classes,)``.
        tree: of the classes; without a taxonomy it is not used.
        most: groups at most.
    """
    if tree is not None and tree.has_taxonomy:
        for rank in reversed(RANKS):
            found = _taxa(tree, rank)
            if 1 < len(found.names) <= most and len(found.names) < len(labels):
                return found
        order = np.array(sorted(range(len(labels)), key=lambda one: tree.lineage(int(tree.taxon_of_class[one]))))
    else:
        order = _by_confusion(confusion)
    size = -(-len(labels) // most)
    members = tuple(order[start : start + size] for start in range(0, len(labels), size))
    return ClassGroups(tuple(_run_name(one, labels) for one in members), members, None)


def _taxa(tree: ClassTree, rank: str) -> ClassGroups:
    taxa = tree.at_rank(rank)[tree.taxon_of_class]
    found = [(tree.lineage(int(taxon)), int(taxon)) for taxon in np.unique(taxa) if taxon >= 0]
    names, members = [], []
    for _, taxon in sorted(found):
        names.append(tree.label_of(taxon))
        members.append(np.flatnonzero(taxa == taxon))
    if (taxa < 0).any():
        names.append(NO_RANK.format(rank=rank))
        members.append(np.flatnonzero(taxa < 0))
    return ClassGroups(tuple(names), tuple(members), rank)


def _by_confusion(confusion: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Classes in an order in which those that are confused lie side by side."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    classes = len(confusion)
    if not 2 < classes <= MOST_CLUSTERED:
        return np.arange(classes)
    shares = (confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    distances = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), method="average")
    return np.asarray(leaves_list(tree), np.int64)


def _run_name(members: npt.NDArray[np.int64], labels: Sequence[str]) -> str:
    first = shortened(labels[int(members[0])], 26)
    return f"{first} +{len(members) - 1}" if len(members) > 1 else first
