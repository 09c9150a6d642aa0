"""A tree of nine classes that has what trees have: gaps, a class above another, a strain, a virus, an unknown taxid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.prediction.call import Call, Hit
from metagene_classifier.prediction.formats.writing import FormatContext
from metagene_classifier.prediction.profile.estimate import estimate_profile
from metagene_classifier.prediction.profile.result import SampleResult
from metagene_classifier.prediction.profile.tally import SampleTally
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.reads.read import Read
from metagene_classifier.reads.taxonomy import TaxonNode, Taxonomy

NODES = [
    # taxid, parent, rank, name
    (1, 1, "no rank", "root"),
    (131567, 1, "no rank", "cellular organisms"),
    (2, 131567, "domain", "Bacteria"),
    (1224, 2, "phylum", "Pseudomonadota"),
    (543, 1224, "family", "Enterobacteriaceae"),
    (561, 543, "genus", "Escherichia"),
    (562, 561, "species", "Escherichia coli"),
    (83333, 562, "strain", "Escherichia coli K-12"),
    (511145, 83333, "no rank", "Escherichia coli str. K-12 substr. MG1655"),
    (590, 543, "genus", "Salmonella"),
    (28901, 590, "species", "Salmonella enterica"),
    (1239, 2, "phylum", "Bacillota"),
    (91061, 1239, "class", "Bacilli"),
    (1279, 91061, "genus", "Staphylococcus"),
    (1280, 1279, "species", "Staphylococcus aureus"),
    (10239, 1, "superkingdom", "Viruses"),
    (11118, 10239, "family", "Coronaviridae"),
    (694009, 11118, "species", "SARS-related coronavirus"),
    (2697049, 694009, "no rank", "Severe acute respiratory syndrome coronavirus 2"),
]
CLASSES = [
    ("E. coli", 562),
    ("MG1655", 511145),
    ("S. enterica", 28901),
    ("S. aureus", 1280),
    ("SARSr-CoV", 694009),
    ("SARS-CoV-2", 2697049),
    ("not in the taxonomy", 999999),
]

TAXONOMY = Taxonomy({taxid: TaxonNode(taxid, parent, rank, name) for taxid, parent, rank, name in NODES})
LABELS = Labels(tuple(ClassLabel(str(number), name, taxid) for number, (name, taxid) in enumerate(CLASSES)))
TREE = ClassTree.of(LABELS, TAXONOMY)
FLAT = ClassTree.of(LABELS)
NO_TAXIDS = ClassTree.of(Labels((ClassLabel("0", "lake genome 1"), ClassLabel("1", "lake genome 2"))))


def taxon(taxid: int, tree: ClassTree = TREE) -> int:
    """The place of a taxid in the tree; 0 for 0."""
    return next(place for place, one in enumerate(tree.taxa) if one.taxid == taxid) if taxid else 0


def call_at(place: int, name: str = "r1", *, tree: ClassTree = TREE, mates: int = 1, **given: object) -> Call:
    """A call at a taxon of the tree, of reads of 20 bases; at 0 unclassified."""
    one = tree.taxa[place]
    probabilities = np.full(len(tree.labels), 1 / len(tree.labels), np.float32)
    reads = tuple(Read(f"{name}/{mate + 1}" if mates > 1 else name, "ACGT" * 5, "I" * 20) for mate in range(mates))
    values: dict[str, object] = {
        "read_id": name,
        "call": tree.label_of(place) if place else "unclassified",
        "taxid": one.taxid if place else None,
        "rank": one.rank if place else "",
        "confidence": 0.75 if place else 0.25,
        "length_bp": 20 * mates,
        "reason": "" if place else "not sure enough",
        "probabilities": probabilities,
        "taxon": place,
        "best_class": 0,
        "reads": reads,
        "hits": tuple((Hit(one.taxid or 0 if place else 0, 7),) for _ in reads),
    }
    return Call(**{**values, **given})  # type: ignore[arg-type]


def context(tree: ClassTree = TREE, *, probabilities: bool = False, sample: str = "gut 1") -> FormatContext:
    """What formats are told about these calls."""
    return FormatContext(sample, tree.labels, tree, False, probabilities, "metagene-classifier 0")


def calls_of(taxids: Sequence[int], tree: ClassTree = TREE) -> list[Call]:
    """A call for each taxid, 0 for unclassified; reads are named r0, r1, …"""
    return [call_at(taxon(taxid, tree), f"r{number}", tree=tree) for number, taxid in enumerate(taxids)]


def result_of(calls: Sequence[Call], tree: ClassTree = TREE, sample: str = "gut 1") -> SampleResult:
    """A sample of these calls, profiled by counting."""
    tally = SampleTally(tree)
    tally.add(calls)
    profile = estimate_profile(sample, tally, tree, None, bootstraps=0, seed=0, genome_lengths=None)
    return SampleResult(sample, tally, tree, profile, "reads.fq")
