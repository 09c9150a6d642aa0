"""Calls at any rank, on cases that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.calling.small_tree import LABELS, NODES, TAXONOMY, TREE

from metagene_classifier.calling.rule import decide, likeliest
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.reads.taxonomy import TaxonNode, Taxonomy


def called(probabilities: list[float], threshold: float, tree: ClassTree = TREE) -> tuple[int | None, float]:
    decisions = decide(np.array([probabilities], np.float32), tree, threshold)
    taxon = int(decisions.taxa[0])
    return (tree.taxa[taxon].taxid if taxon else None), round(float(decisions.confidence[0]), 6)


@pytest.mark.parametrize(
    ("probabilities", "threshold", "taxid", "confidence"),
    [
        ([0.95, 0.02, 0.01, 0.01, 0.01], 0.9, 200, 0.95),  # sure of the species
        ([0.50, 0.45, 0.03, 0.01, 0.01], 0.9, 20, 0.95),  # sure of the genus alone
        ([0.40, 0.25, 0.30, 0.03, 0.02], 0.9, 2, 0.95),  # sure that it is a bacterium
        ([0.30, 0.20, 0.10, 0.20, 0.20], 0.9, None, 0.6),  # sure of nothing below the root
        ([0.01, 0.01, 0.01, 0.01, 0.96], 0.9, 2697049, 0.96),  # the class below another class
        ([0.01, 0.01, 0.01, 0.40, 0.57], 0.9, 694009, 0.97),  # the class above it gets the share of the one below
        ([0.01, 0.01, 0.01, 0.96, 0.01], 0.9, 694009, 0.97),
        ([0.90, 0.04, 0.02, 0.02, 0.02], 0.9, 200, 0.9),  # a threshold is reached at its own value
        ([0.45, 0.10, 0.05, 0.05, 0.35], 0.3, 200, 0.45),  # as deep as SARS-CoV-2 and likelier
        ([0.35, 0.10, 0.05, 0.05, 0.45], 0.3, 2697049, 0.45),
    ],
)
def test_the_deepest_taxon_that_reaches_the_threshold(
    probabilities: list[float], threshold: float, taxid: int | None, confidence: float
) -> None:
    assert called(probabilities, threshold) == (taxid, confidence)


def test_a_tie_of_depth_goes_to_the_likelier() -> None:
    assert called([0.30, 0.10, 0.60, 0.0, 0.0], 0.2) == (210, 0.6)


def test_the_top_rank_has_several_names() -> None:
    newer = {2: "domain", 10239: "acellular root"}
    nodes = {taxid: TaxonNode(taxid, parent, newer.get(taxid, rank), name) for taxid, parent, rank, name in NODES}
    tree = ClassTree.of(LABELS, Taxonomy(nodes))
    tops = tree.at_rank("superkingdom")[tree.taxon_of_class]
    assert [tree.taxa[top].name for top in tops] == ["Bacteria"] * 3 + ["Viruses"] * 2


def test_without_a_taxonomy_a_call_is_a_class_or_nothing() -> None:
    flat = ClassTree.of(LABELS)
    assert called([0.50, 0.45, 0.03, 0.01, 0.01], 0.5, flat) == (200, 0.5)
    assert called([0.50, 0.45, 0.03, 0.01, 0.01], 0.6, flat) == (None, 0.5)


def test_a_class_that_the_taxonomy_lacks_can_be_called_and_has_no_rank() -> None:
    labels = Labels((ClassLabel("0", "prima", 200), ClassLabel("1", "stranger", 5), ClassLabel("2", "nameless")))
    tree = ClassTree.of(labels, TAXONOMY)
    assert [one.label for one in tree.missing] == ["stranger", "nameless"]
    assert called([0.0, 1.0, 0.0], 0.9, tree) == (5, 1.0)
    assert tree.taxa[int(tree.taxon_of_class[2])].rank == ""
    assert tree.label_of(int(tree.taxon_of_class[2])) == "nameless"


def test_classes_of_one_taxid_are_one_taxon() -> None:
    labels = Labels((ClassLabel("0", "chromosome", 200), ClassLabel("1", "plasmid", 200), ClassLabel("2", "beta", 210)))
    assert called([0.5, 0.45, 0.05], 0.9, ClassTree.of(labels, TAXONOMY)) == (200, 0.95)
    assert called([0.5, 0.45, 0.05], 0.9, ClassTree.of(labels)) == (200, 0.95)


def test_merged_taxids_stand_where_they_were_merged_to() -> None:
    merged = Taxonomy({taxid: TAXONOMY[taxid] for taxid in TAXONOMY}, merged={77: 201})
    tree = ClassTree.of(Labels((ClassLabel("0", "prima", 200), ClassLabel("1", "old", 77))), merged)
    assert called([0.5, 0.5], 0.9, tree) == (20, 1.0)


def test_the_closed_set_is_the_likeliest_class() -> None:
    decisions = likeliest(np.array([[0.1, 0.3, 0.2, 0.2, 0.2]], np.float32), TREE)
    assert TREE.label_of(int(decisions.taxa[0])) == "secunda"


def test_ranks_and_lineages() -> None:
    covid = int(TREE.taxon_of_class[4])
    assert TREE.lineage_names(covid) == "Viruses;sarbeco;covid"
    species = TREE.at_rank("species")
    assert TREE.taxa[species[covid]].taxid == 694009
    assert TREE.at_rank("genus")[covid] == -1
    assert TREE.taxa[TREE.at_rank("domain")[covid]].name == "Viruses"
    assert TREE.is_on_lineage(species[covid], covid)
    assert not TREE.is_on_lineage(covid, species[covid])
    assert TREE.is_on_lineage(0, covid)


@given(
    st.lists(st.lists(st.floats(0.001, 1), min_size=5, max_size=5), min_size=1, max_size=20),
    st.floats(0.501, 1.0),
)
def test_above_one_half_no_taxon_below_the_call_reaches_the_threshold(
    rows: list[list[float]], threshold: float
) -> None:
    probabilities = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    decisions = decide(probabilities, TREE, threshold)
    for row, taxon in zip(TREE.sums(probabilities), decisions.taxa.tolist(), strict=True):
        if taxon:
            assert row[taxon] >= threshold - 2e-6
        below = [other for other in range(1, len(TREE)) if other != taxon and TREE.is_on_lineage(taxon, other)]
        assert all(row[other] < threshold for other in below)


@given(st.lists(st.lists(st.floats(0.001, 1), min_size=5, max_size=5), min_size=1, max_size=20), st.floats(0.501, 1.0))
def test_reads_that_are_sure_by_one_class_are_called_as_their_sums_say(
    rows: list[list[float]], threshold: float
) -> None:
    sharp = np.array(rows) ** 8
    probabilities = (sharp / sharp.sum(axis=1, keepdims=True)).astype(np.float32)
    decisions = decide(probabilities, TREE, threshold)
    sums = TREE.sums(probabilities)
    for row, taxon, confidence in zip(sums, decisions.taxa.tolist(), decisions.confidence.tolist(), strict=True):
        reached = [other for other in range(1, len(TREE)) if row[other] >= threshold - 1e-6]
        assert taxon == max(reached, key=lambda other: TREE.taxa[other].depth, default=0)
        assert confidence == (row[taxon] if taxon else row[1:].max())


@given(st.lists(st.lists(st.floats(0.001, 1), min_size=5, max_size=5), min_size=2, max_size=9), st.floats(0.0, 1.0))
def test_a_read_is_called_alike_beside_any_others(rows: list[list[float]], threshold: float) -> None:
    probabilities = (np.array(rows) / np.sum(rows, axis=1, keepdims=True)).astype(np.float32)
    together = decide(probabilities, TREE, threshold)
    for number in range(len(rows)):
        alone = decide(probabilities[number : number + 1], TREE, threshold)
        assert alone.taxa[0] == together.taxa[number]
        assert alone.confidence[0] == together.confidence[number]
