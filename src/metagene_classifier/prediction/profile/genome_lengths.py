"""Lengths of genomes, by which shares of reads become shares of cells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.errors import DataError
from metagene_classifier.prediction.profile.clades import clade_sums
from metagene_classifier.reads.tsv import tsv_rows

__all__ = ["lengths_of_taxa", "read_genome_lengths"]


def read_genome_lengths(path: Path, tree: ClassTree) -> dict[int, int]:
    """Read a tab-separated table of taxa (a taxid, or the label of a class) and lengths of their genomes in bases.

    A header row may stand above; taxa that the model does not have are passed over, so one table does for many models.

    Returns:
        Lengths by place in the tree.

    Raises:
        DataError: the table cannot be read, a length is no positive number of bases, two rows give one taxon different
            lengths, or no row is of a taxon of the model.
    """
    places: dict[str, int] = {}
    for place, taxon in enumerate(tree.taxa):
        if taxon.taxid is not None and place:
            places.setdefault(str(taxon.taxid), place)
    for one, place in zip(tree.labels.classes, tree.taxon_of_class.tolist(), strict=True):
        places[one.label] = place
        if one.taxid is not None:
            places.setdefault(str(one.taxid), place)  # the taxonomy may know it by a newer one
    lengths: dict[int, int] = {}
    lines: dict[int, int] = {}
    first = True
    for row in tsv_rows(path):
        header, first = first, False
        bases = _bases(row.cell(1))
        if bases is None and header:
            continue
        if bases is None:
            raise DataError(
                f"{path}, line {row.line}: {row.cell(1)!r} is no length in bases: expected a taxid or label and the "
                "bases of its genome, separated by a tab"
            )
        found = places.get(row.cell(0))
        if found is None:
            continue
        if lengths.setdefault(found, bases) != bases:
            raise DataError(
                f"{path}, line {row.line}: {row.cell(0)} has {bases:,} bases here and {lengths[found]:,} in line "
                f"{lines[found]}: keep one of them"
            )
        lines.setdefault(found, row.line)
    if not lengths:
        raise DataError(f"{path}: no row is of a taxon of this model: expected taxids, or labels of its classes")
    return lengths


def lengths_of_taxa(given: Mapping[int, int], tree: ClassTree) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The length of every taxon's genome, and for which of them one is known.

    A taxon without a length of its own has the mean of those given for taxa below it or, where there are none, the
    length of the taxon above it. What that leaves has the mean of all, and counts as unknown.

    Args:
        given: lengths in bases by place in the tree; at least one.
        tree: of the taxa.

    Returns:
        Lengths ``(taxa,)`` and known ``(taxa,)``.
    """
    own = np.zeros((2, len(tree)))
    own[0, list(given)] = list(given.values())
    own[1] = own[0] > 0
    sums, numbers = clade_sums(own, tree)
    lengths = np.divide(sums, numbers, out=np.zeros_like(sums), where=numbers > 0)
    lengths = np.where(own[0] > 0, own[0], lengths)
    known = lengths > 0
    known[0] = False
    for taxon in np.flatnonzero(~known[1:]) + 1:  # parents stand before their children
        lengths[taxon] = lengths[tree.parents[taxon]]
        known[taxon] = known[tree.parents[taxon]]
    return lengths, known


def _bases(text: str) -> int | None:
    digits = text.replace(",", "").replace("_", "")
    return int(digits) if digits.isascii() and digits.isdecimal() and int(digits) > 0 else None
