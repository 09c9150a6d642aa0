"""Calls of another classifier beside ours."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.errors import ConfigError, DataError
from metagene_classifier.prediction.compare import compare, place_calls, read_others
from metagene_classifier.prediction.kraken_calls import OtherCalls, ReadKeys, match_calls, read_kraken
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.reads.taxonomy import Taxonomy

TAXONOMY = Path(__file__).parents[2] / "data" / "taxonomy"


def keys_of(ids):
    keys = ReadKeys()
    for one in ids:
        keys.add(one)
    return keys


def other_of(rows):
    return OtherCalls(
        "k2", Path("k2.kraken"), keys_of([one for one, _ in rows]), np.array([taxid for _, taxid in rows], np.int64)
    )


def test_kraken_output_with_names_pairs_and_unclassified_reads(tmp_path):
    path = tmp_path / "calls.kraken"
    path.write_text(
        "C\tread1\t562\t150\t562:116\n"
        "U\tread2\t0\t98|94\t0:64 |:| 0:60\n"
        "\n"
        "C\tread3\tEscherichia coli (taxid 562)\t150\t562:116\r\n"
        "C\tread4\t9606\n"
        "U\tread5\t9606\n"
    )
    found = read_kraken(path, "k2")
    assert found.taxids.tolist() == [562, 0, 562, 9606, 0]
    packed = tmp_path / "calls.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_kraken(packed, "k2").taxids.tolist() == [562, 0, 562, 9606, 0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("100.00\t10\t10\tU\t0\tunclassified\n", "line 1: not Kraken's output"),
        ("C\tr1\t562\nC\tr2\n", "line 2: not Kraken's output"),
        ("C\tr1\tfive\n", "line 1: 'five' is no taxid"),
        ("", "empty"),
    ],
)
def test_other_files_are_refused_with_the_line(tmp_path, text, fault):
    path = tmp_path / "calls.kraken"
    path.write_text(text)
    with pytest.raises(DataError, match=fault):
        read_kraken(path, "k2")


def test_a_file_cut_short_is_refused(tmp_path):
    path = tmp_path / "calls.kraken.gz"
    lines = "".join(f"C\tread{number}\t{number}\n" for number in range(1, 500))
    path.write_bytes(gzip.compress(lines.encode())[:-50])
    with pytest.raises(DataError, match="cut short"):
        read_kraken(path, "k2")
    with pytest.raises(DataError, match="no such file"):
        read_kraken(tmp_path / "nowhere", "k2")


def test_classifiers_are_named_by_the_option_or_their_file(tmp_path):
    for name in ("k2.kraken", "b=c.kraken"):
        (tmp_path / name).write_text("C\tr\t1\n")
    first, second, third = read_others(
        [f"Kraken 2={tmp_path / 'k2.kraken'}", str(tmp_path / "k2.kraken"), str(tmp_path / "b=c.kraken")]
    )
    assert [first.name, second.name, third.name] == ["Kraken 2", "k2", "b=c"]
    with pytest.raises(ConfigError, match="both called k2"):
        read_others([str(tmp_path / "k2.kraken")] * 1 + [f"k2={tmp_path / 'b=c.kraken'}"])


def test_reads_are_found_by_id_in_any_order_and_what_is_missing_is_counted():
    matched = match_calls(keys_of(["a", "b", "c", "d"]), other_of([("d", 4), ("a", 1), ("x", 9), ("c", 3)]))
    assert matched.taxids.tolist() == [1, 0, 3, 4]
    assert (matched.missing, matched.extra, matched.ambiguous) == (1, 1, 0)


def test_reads_of_one_id_are_matched_by_position():
    ours = keys_of(["a", "b", "a", "a"])
    assert match_calls(ours, other_of([("a", 1), ("a", 2), ("b", 3), ("a", 4)])).taxids.tolist() == [1, 3, 2, 4]
    fewer = match_calls(ours, other_of([("a", 1), ("b", 3), ("a", 2)]))
    assert fewer.taxids.tolist() == [1, 3, 2, 0]
    assert (fewer.missing, fewer.ambiguous) == (1, 3)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (["lbl|0|1|9|E coli/1", "lbl|0|1|9|E coli/2"], ["lbl|0|1|9|E", "lbl|0|1|9|E"]),
        (["lbl|0|1|9|E coli x/1", "lbl|0|1|9|E coli y/1"], ["lbl|0|1|9|E coli x", "lbl|0|1|9|E coli y"]),
        (["r1", "r2"], ["r1/1", "r2/1"]),
        (["r1/1", "r2/1"], ["r1", "r2"]),
        (["r1/1", "r1/2"], ["r1/1", "r1/2"]),
    ],
)
def test_ids_are_matched_however_a_tool_shortens_them(ours, theirs):
    matched = match_calls(keys_of(ours), other_of([(theirs[0], 7), (theirs[1], 8)]))
    assert matched.taxids.tolist() == [7, 8] and matched.missing == 0


@given(st.lists(st.integers(0, 5), max_size=30), st.lists(st.integers(0, 5), max_size=30))
def test_each_record_is_used_once_and_the_kth_goes_to_the_kth(ours, theirs):
    """As a plain loop over queues does it."""
    rows = [(f"r{one}", place + 1) for place, one in enumerate(theirs)]
    queues = {}
    for read, taxid in rows:
        queues.setdefault(read, []).append(taxid)
    expected = [queues.get(f"r{one}", []).pop(0) if queues.get(f"r{one}") else 0 for one in ours]
    matched = match_calls(keys_of([f"r{one}" for one in ours]), other_of(rows))
    assert matched.taxids.tolist() == expected
    assert matched.missing == expected.count(0)
    assert matched.extra == len(rows) - len(ours) + matched.missing


@pytest.fixture
def world(tmp_path):
    """E. coli, SARS-related coronavirus and SARS-CoV-2 below it, in a taxonomy with merged taxids."""
    for name in ("nodes.dmp", "names.dmp"):
        (tmp_path / name).write_text((TAXONOMY / name).read_text())
    (tmp_path / "nodes.dmp").open("a").write("83333\t|\t562\t|\tstrain\t|\n")
    (tmp_path / "names.dmp").open("a").write("83333\t|\tEscherichia coli K-12\t|\t\t|\tscientific name\t|\n")
    (tmp_path / "merged.dmp").write_text("12\t|\t562\t|\n13\t|\t83333\t|\n")
    taxonomy = Taxonomy.read(tmp_path)
    labels = Labels(
        (
            ClassLabel("0", "E. coli", 562),
            ClassLabel("1", "SARS-like", 694009),
            ClassLabel("2", "SARS-CoV-2", 2697049),
            ClassLabel("3", "stranger", 999999999),
        )
    )
    return taxonomy, ClassTree.of(labels, taxonomy)


def test_taxids_are_placed_among_the_classes(world):
    taxonomy, tree = world
    ecoli, sars_like, covid, stranger = tree.taxon_of_class.tolist()
    family = next(place for place, taxon in enumerate(tree.taxa) if taxon.taxid == 543)
    taxids = [0, 1, 562, 12, 83333, 13, 2697049, 694009, 543, 1280, 999999999, 888888888]
    placed = place_calls(taxids, tree, taxonomy)
    assert placed.taxon.tolist() == [
        *(0, 0, ecoli, ecoli, ecoli, ecoli, covid, sars_like, family, -1, stranger, -1),
    ]
    assert placed.unknown.tolist() == [taxid == 888888888 for taxid in taxids]
    species = dict(zip(taxids, placed.taxid_at["species"].tolist(), strict=True))
    assert species[83333] == species[13] == species[12] == 562
    assert species[1280] == 1280 and species[543] == -1 and species[888888888] == -1
    assert dict(zip(taxids, placed.taxid_at["superkingdom"].tolist(), strict=True))[1280] == 2


def test_figures_of_another_classifier_by_hand(world):
    taxonomy, tree = world
    ids = [f"r{number}" for number in range(8)]
    truth = np.array([0, 0, 0, 0, 1, 2, 2, 0])
    rows = [
        ("r0", 562),  # right
        ("r1", 13),  # a strain of it: right
        ("r2", 543),  # its family: vague
        ("r3", 1280),  # S. aureus, no class of ours: wrong
        ("r4", 2697049),  # below the class, and another class: wrong
        ("r5", 0),
        ("r6", 2697049),
        ("stray", 562),
    ]
    found = compare(other_of(rows), keys_of(ids), truth, tree, taxonomy)
    assert (found.missing, found.extra) == (1, 1)
    one = found.open
    assert (one.correct, one.vague, one.wrong, one.unclassified) == (3, 1, 2, 2)
    assert "1 of 8 reads are not in k2.kraken" in found.warnings[0]
    species = found.ranks[-1]
    # SARS-CoV-2 is no species of its own, and of the one that the class above it is.
    assert species.rank == "species" and (species.reads, species.called, species.correct) == (8, 5, 4)
    phylum = found.ranks[1]
    assert phylum.rank == "phylum" and phylum.correct == 5


def test_taxids_that_the_models_taxonomy_lacks_are_told(world):
    taxonomy, _ = world
    labels = Labels((ClassLabel("0", "E. coli", 562), ClassLabel("1", "S. aureus", 1280)))
    kept = taxonomy.subset([562, 1280])
    tree = ClassTree.of(labels, kept)
    found = compare(other_of([("a", 562), ("b", 83333)]), keys_of(["a", "b"]), np.array([0, 0]), tree, kept)
    assert found.open.wrong == 1 and found.ranks[-1].called == 1
    assert "1 reads are called with 1 taxids" in found.warnings[0] and "--taxonomy DIR" in found.warnings[0]


def test_without_a_taxonomy_taxids_are_compared_as_they_are():
    labels = Labels((ClassLabel("0", "E. coli", 562), ClassLabel("1", "S. aureus", 1280)))
    tree = ClassTree.of(labels, None)
    found = compare(other_of([("a", 562), ("b", 1280), ("c", 0)]), keys_of("abc"), np.array([0, 0, 1]), tree, None)
    assert (found.open.correct, found.open.wrong, found.open.unclassified) == (1, 1, 1)
    assert found.ranks == ()
    assert place_calls([0, 1, 562, 9], tree, None).taxon.tolist() == [0, 0, tree.taxon_of_class[0], -1]
