"""Calls without a model, and confusions written out."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from metagene_classifier.calling.confusion import Confusion
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.profile.tally import SampleTally
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.reads.read import Read
from metagene_classifier.reads.taxonomy import TaxonNode, Taxonomy

TAXONOMY = Taxonomy(
    {
        taxid: TaxonNode(taxid, parent, rank, name)
        for taxid, parent, rank, name in [
            (1, 1, "no rank", "root"),
            (2, 1, "superkingdom", "Bacteria"),
            (20, 2, "genus", "Alpha"),
            (200, 20, "species", "Alpha prima"),
            (2001, 200, "strain", "Alpha prima K"),
            (201, 20, "species", "Alpha secunda"),
            (21, 2, "genus", "Beta"),
            (210, 21, "species", "Beta prima"),
        ]
    }
)
LABELS = Labels(
    tuple(
        ClassLabel(str(place), label, taxid)
        for place, (label, taxid) in enumerate([("prima", 200), ("K", 2001), ("secunda", 201), ("beta", 210)])
    )
)
TREE = ClassTree.of(LABELS, TAXONOMY)
"""Classes 0 to 3: a species, a strain below it, another species of its genus, and one of another genus."""


def flat(classes: int) -> ClassTree:
    """Classes without a taxonomy; class ``n`` is taxon ``n + 1``."""
    return ClassTree.of(Labels(tuple(ClassLabel(str(number), f"class {number}") for number in range(classes))))


def place(taxid: int, tree: ClassTree = TREE) -> int:
    """A taxon's place in the tree."""
    return next(number for number, taxon in enumerate(tree.taxa) if taxon.taxid == taxid)


def call(
    taxon: int, best: int, *, confidence: float = 0.9, length: int = 150, reason: str = "", mates: int = 1
) -> Call:
    """A call at a taxon, 0 for unclassified, with its likeliest class."""
    why = reason or ("" if taxon else "not sure enough")
    probabilities = np.zeros(1, np.float32)
    reads = tuple(Read("r", "", None) for _ in range(mates))
    return Call("r", "x", None, "", confidence, length, why, probabilities, taxon, best, reads, ())


def tally_of(tree: ClassTree, counts: list[int], unclassified: int = 0) -> SampleTally:
    """So many reads called each class, and so many called nothing."""
    tally = SampleTally(tree)
    for number, count in enumerate(counts):
        tally.add([call(int(tree.taxon_of_class[number]), number)] * count)
    tally.add([call(0, 0)] * unclassified)
    return tally


def confusion(rows: list[list[int]], *, has_unknown: bool = False) -> Confusion:
    """From a written table: a row a class, a column a class and one for unclassified reads."""
    return Confusion(csr_array(np.array(rows, np.int64)), has_unknown)
