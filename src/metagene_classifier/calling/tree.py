"""The classes of a model and everything above them, as one tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.reads.taxonomy import ROOT, Taxonomy

__all__ = ["RANKS", "TOP_RANKS", "ClassTree", "TreeTaxon"]

RANKS = ("superkingdom", "phylum", "class", "order", "family", "genus", "species")
"""The ranks that tables are made for, from the top down."""
TOP_RANKS = frozenset({"superkingdom", "domain", "acellular root"})
"""What NCBI's dumps call the first of them: since 2024 ``domain`` for cells and ``acellular root`` for viruses."""

VALUES_IN_CACHE = 2**18


@dataclass(frozen=True, slots=True)
class TreeTaxon:
    """One taxon of a tree.

    Attributes:
        taxid: of NCBI; ``None`` for a class that has none.
        name: the scientific name, or the label of a class that the taxonomy does not have.
        rank: as the taxonomy says; empty without one.
        parent: place in the tree; the root's is its own.
        depth: steps from the root.
    """

    taxid: int | None
    name: str
    rank: str
    parent: int
    depth: int


@dataclass(frozen=True, eq=False)
class ClassTree:
    """The classes and their ancestors; taxon 0 is the root, and parents stand before their children.

    Attributes:
        labels: the classes, in the order of the head's outputs.
        taxa: of the tree; classes that share a taxid share a taxon.
        taxon_of_class: ``(classes,)`` int64.
        has_taxonomy: whether there are ranks; otherwise every class hangs under the root.
        missing: classes whose taxid the taxonomy does not have, or that have none; they hang under the root.
    """

    labels: Labels
    taxa: tuple[TreeTaxon, ...]
    taxon_of_class: npt.NDArray[np.int64]
    has_taxonomy: bool
    missing: tuple[ClassLabel, ...]

    @classmethod
    def of(cls, labels: Labels, taxonomy: Taxonomy | None = None) -> ClassTree:
        """The tree of classes; flat without a taxonomy."""
        taxa = [TreeTaxon(ROOT, "root", "no rank" if taxonomy else "", 0, 0)]
        places: dict[int, int] = {ROOT: 0}
        missing: list[ClassLabel] = []
        of_class: list[int] = []
        for one in labels.classes:
            known = None if taxonomy is None or one.taxid is None else taxonomy.current(one.taxid)
            if taxonomy is None or known is None or known == ROOT:
                if taxonomy is not None:
                    missing.append(one)
                shared = None if one.taxid in (None, ROOT) else places.get(_lone(one.taxid))
                if shared is None:
                    taxa.append(TreeTaxon(one.taxid, one.label, "", 0, 1))
                    shared = len(taxa) - 1
                    if one.taxid is not None:
                        places[_lone(one.taxid)] = shared
                of_class.append(shared)
                continue
            place = 0
            for taxid in taxonomy.lineage(known):
                if taxid not in places:
                    node = taxonomy[taxid]
                    taxa.append(TreeTaxon(taxid, node.name, node.rank, place, taxa[place].depth + 1))
                    places[taxid] = len(taxa) - 1
                place = places[taxid]
            of_class.append(place)
        return cls(labels, tuple(taxa), np.array(of_class, np.int64), taxonomy is not None, tuple(missing))

    def __len__(self) -> int:
        return len(self.taxa)

    @cached_property
    def parents(self) -> npt.NDArray[np.int64]:
        """Of each taxon; ``(taxa,)``."""
        return np.array([taxon.parent for taxon in self.taxa], np.int64)

    @cached_property
    def depths(self) -> npt.NDArray[np.int64]:
        """Of each taxon; ``(taxa,)``."""
        return np.array([taxon.depth for taxon in self.taxa], np.int64)

    @cached_property
    def stands_alone(self) -> npt.NDArray[np.bool_]:
        """Which taxa are one class, with nothing below them; ``(taxa,)``."""
        alone: npt.NDArray[np.bool_] = np.bincount(self.taxon_of_class, minlength=len(self.taxa)) == 1
        alone[self.parents] = False
        return alone

    @cached_property
    def _steps_up(self) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """From the deepest taxa up: taxa with siblings side by side, where each parent's begin, and the parents."""
        steps = []
        for depth in range(int(self.depths.max(initial=0)), 0, -1):
            taxa = np.flatnonzero(self.depths == depth)
            taxa = taxa[np.argsort(self.parents[taxa], kind="stable")]
            parents, begins = np.unique(self.parents[taxa], return_index=True)
            steps.append((taxa, begins, parents))
        return steps

    @cached_property
    def _classes_of_taxa(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Taxa that are classes, all classes with those of a taxon side by side, and where each taxon's begin."""
        classes = np.argsort(self.taxon_of_class, kind="stable")
        own, begins = np.unique(self.taxon_of_class[classes], return_index=True)
        return own, classes, begins

    def sums(self, probabilities: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Probabilities of classes added up in their own taxa and in all taxa above.

        A read's sums are the same beside whichever others: each is added up by itself, in the order of the tree.

        Args:
            probabilities: ``(reads, classes)``.

        Returns:
            ``(reads, taxa)``.
        """
        found = np.empty((len(probabilities), len(self.taxa)))
        own, classes, class_begins = self._classes_of_taxa
        rows = max(1, VALUES_IN_CACHE // len(self.taxa))
        for start in range(0, len(probabilities), rows):
            part = probabilities[start : start + rows]
            summed = np.zeros((len(self.taxa), len(part)))
            summed[own] = np.add.reduceat(part.T[classes].astype(np.float64), class_begins, axis=0)
            for taxa, begins, parents in self._steps_up:
                summed[parents] += np.add.reduceat(summed[taxa], begins, axis=0)
            found[start : start + rows] = summed.T
        return found

    def lineage(self, taxon: int) -> tuple[int, ...]:
        """From the taxon below the root down to this one; empty for the root."""
        way = []
        while taxon:
            way.append(taxon)
            taxon = self.taxa[taxon].parent
        return tuple(reversed(way))

    def lineage_names(self, taxon: int) -> str:
        """Names from below the root to the taxon, ``;`` between them."""
        return ";".join(self.label_of(one) for one in self.lineage(taxon))

    def at_rank(self, rank: str) -> npt.NDArray[np.int64]:
        """For each taxon its ancestor, or itself, at a rank; -1 where there is none. ``(taxa,)``."""
        meant = TOP_RANKS if rank in TOP_RANKS else {rank}
        found = np.full(len(self.taxa), -1, np.int64)
        for number, taxon in enumerate(self.taxa):
            found[number] = number if taxon.rank in meant else found[taxon.parent] if number else -1
        return found

    @cached_property
    def _ends(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First and last place of each taxon's clade in a walk that visits clades whole."""
        children: list[list[int]] = [[] for _ in self.taxa]
        for number, parent in enumerate(self.parents.tolist()):
            if number:
                children[parent].append(number)
        first = np.zeros(len(self.taxa), np.int64)
        last = np.zeros(len(self.taxa), np.int64)
        clock, stack = 0, [(0, False)]
        while stack:
            taxon, left = stack.pop()
            if left:
                last[taxon] = clock
                continue
            clock += 1
            first[taxon] = clock
            stack.append((taxon, True))
            stack += [(child, False) for child in reversed(children[taxon])]
        return first, last

    def is_on_lineage(
        self, taxa: npt.NDArray[np.int64] | int, of: npt.NDArray[np.int64] | int
    ) -> npt.NDArray[np.bool_]:
        """Whether each of ``taxa`` is the taxon ``of`` or one above it; the root is above all."""
        first, last = self._ends
        inside: npt.NDArray[np.bool_] = np.asarray((first[taxa] <= first[of]) & (first[of] <= last[taxa]))
        return inside

    @cached_property
    def _labels(self) -> Sequence[str]:
        own = [taxon.name for taxon in self.taxa]
        for one, place in reversed(list(zip(self.labels.classes, self.taxon_of_class.tolist(), strict=True))):
            own[place] = one.label
        return own

    def label_of(self, taxon: int) -> str:
        """The label of the class that a taxon is, the first where several share it; otherwise the taxon's name."""
        return self._labels[taxon]


def _lone(taxid: int | None) -> int:
    """A key for a taxid that the taxonomy does not have, beside those that it has."""
    return -(taxid or 0)
