"""Figures at ranks, by hand and against the tools of CAMI on the same files."""

import csv
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tools import run_tool

from metagene_classifier.calling.confusion import Confusion
from metagene_classifier.calling.tree import RANKS, ClassTree
from metagene_classifier.metrics.calls import CallCounts, call_figures
from metagene_classifier.metrics.ranks import profile_figures, rank_figures
from metagene_classifier.prediction.formats import cami_profile
from metagene_classifier.prediction.profile.estimate import estimate_profile
from metagene_classifier.prediction.profile.result import SampleResult
from metagene_classifier.prediction.profile.tally import SampleTally
from metagene_classifier.prediction.rank_evaluation import (
    figures_at_ranks,
    figures_of_calls,
    profile_shares,
    taxids_at,
)
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.reads.taxonomy import Taxonomy

DATA = Path(__file__).parents[2] / "data"


def figures(groups, **more):
    """Of ``(truth, called, is_called, reads)``."""
    truth, called, is_called, reads = zip(*groups, strict=True)
    return rank_figures("genus", np.array(truth), np.array(called), np.array(is_called, bool), np.array(reads), **more)


def test_figures_of_a_rank_by_hand():
    found = figures(
        [
            (1, 1, True, 6),  # right
            (1, 2, True, 2),  # wrong
            (1, -1, True, 2),  # called above the rank
            (2, 2, True, 4),
            (2, 3, True, 1),  # a taxon that no read belongs to
            (2, -1, False, 7),  # unclassified
            (-1, 1, True, 10),  # its class has no taxon at the rank
        ]
    )
    assert (found.reads, found.called, found.correct, found.taxa) == (22, 13, 10, 2)
    assert found.completeness == pytest.approx((6 / 10 + 4 / 12) / 2)
    assert found.purity == pytest.approx((6 / 6 + 4 / 6 + 0 / 1) / 3)
    assert found.f1 == pytest.approx(2 * (7 / 15) * (5 / 9) / (7 / 15 + 5 / 9))
    assert found.misclassification == pytest.approx(3 / 13)
    assert found.accuracy == pytest.approx(10 / 22)
    # There: 10 and 12 of 32 reads. Called: 16, 6 and 1 of the 25 that are called at all.
    assert found.counted.l1 == pytest.approx(abs(10 / 32 - 16 / 25) + abs(12 / 32 - 6 / 25) + 1 / 25)
    assert found.counted.bray_curtis == pytest.approx(found.counted.l1 / (22 / 32 + 23 / 25))
    assert (found.counted.completeness, found.counted.purity) == (1.0, 2 / 3)
    assert found.counted.f1 == pytest.approx(0.8)
    assert found.estimated is None


def test_a_perfect_rank_and_one_where_nothing_is_called():
    perfect = figures([(1, 1, True, 3), (2, 2, True, 1)])
    assert (perfect.completeness, perfect.purity, perfect.f1, perfect.accuracy) == (1, 1, 1, 1)
    assert perfect.misclassification == 0 and perfect.counted.l1 == 0 and perfect.counted.bray_curtis == 0
    silent = figures([(1, -1, False, 3)])
    assert (silent.completeness, silent.accuracy, silent.called) == (0, 0, 0)
    assert silent.purity is silent.f1 is silent.misclassification is None
    assert (silent.counted.l1, silent.counted.bray_curtis, silent.counted.purity) == (1, 1, 0)
    assert figures([(-1, 5, True, 3)]) is None


def test_an_estimated_profile_stands_beside_the_counted_one():
    found = figures([(1, 1, True, 8), (2, 1, True, 2)], estimated={1: 0.8, 2: 0.2})
    assert found.counted.l1 == pytest.approx(0.4) and found.counted.completeness == 0.5
    assert found.estimated.l1 == pytest.approx(0) and found.estimated.completeness == 1
    flat = found.as_dict()
    assert flat["profile_l1"] == found.counted.l1 and flat["estimated_l1"] == found.estimated.l1


def test_profiles_are_taken_as_they_are_and_not_scaled():
    found = profile_figures({1: 0.5, 2: 0.5}, {1: 0.25})
    assert found.l1 == 0.75 and found.bray_curtis == pytest.approx(0.75 / 1.25)
    nothing = profile_figures({}, {})
    assert nothing.l1 == 0 and nothing.bray_curtis is None


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=60), st.randoms(use_true_random=False))
def test_counts_are_the_same_however_the_reads_are_cut_into_blocks(reads, rng):
    whole, pieces = CallCounts(7), CallCounts(7)
    columns = np.array(reads, np.int64).reshape(-1, 2)
    whole.add(columns[:, 0], columns[:, 1])
    start = 0
    while start < len(reads):
        stop = start + rng.randint(1, 10)
        pieces.add(columns[start:stop, 0], columns[start:stop, 1])
        start = stop
    for one, other in zip(whole.groups(), pieces.groups(), strict=True):
        assert one.tolist() == other.tolist()
    assert whole.groups()[2].sum() == len(reads)


def test_vague_calls_are_neither_right_nor_wrong():
    found = call_figures(correct=6, vague=3, wrong=2, unclassified=1)
    assert (found.reads, found.called) == (12, 11)
    assert found.precision == pytest.approx(6 / 8) and found.sensitivity == pytest.approx(0.5)
    assert found.f1 == pytest.approx(0.6)
    nothing = call_figures(correct=0, vague=0, wrong=0, unclassified=4)
    assert nothing.precision is nothing.f1 is None and nothing.sensitivity == 0


def test_calls_above_the_class_are_vague_and_calls_below_it_are_wrong():
    taxonomy = Taxonomy.read(DATA / "taxonomy")
    labels = Labels((ClassLabel("0", "family", 543), ClassLabel("1", "E. coli", 562), ClassLabel("2", "rod", 1423)))
    tree = ClassTree.of(labels, taxonomy)
    family, ecoli, bacillus = tree.taxon_of_class.tolist()
    bacteria = next(place for place, taxon in enumerate(tree.taxa) if taxon.name == "Bacteria")
    counts = CallCounts(len(tree))
    counts.add(np.array([1, 1, 1, 0, 1, 2, 2]), np.array([ecoli, family, bacteria, ecoli, bacillus, 0, bacillus]))
    found = figures_of_calls(counts, tree)
    assert (found.correct, found.vague, found.wrong, found.unclassified) == (2, 2, 2, 1)


@pytest.fixture(scope="module")
def called_reads(tmp_path_factory):
    """Calls of reads of bacteria and viruses, right, wrong, vague and missing, as files of CAMI's tools."""
    folder = tmp_path_factory.mktemp("cami")
    taxonomy = Taxonomy.read(DATA / "taxonomy")
    # SARS-CoV-2 lies below the next one; 482 is a genus, whose reads have no species; two classes have no read.
    taxids = (562, 28901, 1423, 1280, 287, 2697049, 694009, 482, 10335, 1639, 1313)
    labels = Labels(tuple(ClassLabel(str(place), f"class {taxid}", taxid) for place, taxid in enumerate(taxids)))
    tree = ClassTree.of(labels, taxonomy)
    rng = random.Random(1)
    truth = [rng.randrange(len(labels) - 2) for _ in range(300)]
    called = []
    for one in truth:
        lineage = tree.lineage(int(tree.taxon_of_class[one]))
        if one == 0:  # never found, so that a taxon is missing from the profile
            called.append(rng.choice([0, rng.randrange(1, len(tree))]))
        else:
            wrong = int(rng.choice(tree.taxon_of_class.tolist()))
            called.append(rng.choices([lineage[-1], rng.choice(lineage), wrong, 0], [12, 3, 3, 2])[0])
    called = [0 if call == tree.taxon_of_class[0] else call for call in called]
    counts = CallCounts(len(tree))
    counts.add(np.array(truth), np.array(called))
    true_taxa = [int(tree.taxon_of_class[one]) for one in truth]
    (folder / "gold.binning").write_text(_binning(tree, true_taxa, lengths=True))
    (folder / "ours.binning").write_text(_binning(tree, called, lengths=False))
    (folder / "gold.profile").write_text(_profile(tree, true_taxa))
    (folder / "ours.profile").write_text(_profile(tree, [call for call in called if call]))
    profile = _estimated(tree, called, rng)
    cami_profile.write(folder / "estimated.profile", SampleResult("sample", None, tree, profile, "reads"))
    found = figures_at_ranks(
        counts,
        tree,
        taxid_of_call={rank: taxids_at(tree, rank) for rank in RANKS},
        is_call=np.arange(len(tree)) > 0,
        estimated=profile_shares(profile, tree),
    )
    assert [one.rank for one in found] == list(RANKS)
    assert found[-1].reads < len(truth) and any(one.counted.purity < 1 for one in found)
    return folder, {one.rank: one for one in found}


def _estimated(tree, called, rng):
    """A profile of the calls, corrected by the confusions of other reads."""
    classes = {int(taxon): place for place, taxon in enumerate(tree.taxon_of_class)}
    tally = SampleTally(tree)
    tally.direct += np.bincount(called, minlength=len(tree))
    tally.observed += np.bincount([classes.get(call, len(classes)) for call in called], minlength=len(classes) + 1)
    tally.reads = len(called)
    truth = np.repeat(np.arange(len(classes)), 40)
    noisy = np.array([one if rng.random() < 0.7 else rng.randrange(len(classes) + 1) for one in truth])
    profile = estimate_profile("sample", tally, tree, Confusion.of(truth, noisy, len(classes)), bootstraps=0)
    assert profile.method == "em"
    return profile


def _binning(tree, calls, lengths):
    rows = [
        f"read{number}\t{tree.taxa[call].taxid}" + ("\t150" if lengths else "")
        for number, call in enumerate(calls)
        if call
    ]
    columns = "@@SEQUENCEID\tTAXID" + ("\tLENGTH" if lengths else "")
    return "\n".join(["@Version:0.10.0", "@SampleID:sample", "", columns, *rows, ""])


def _profile(tree, calls):
    rows = []
    for depth, rank in enumerate(RANKS, 1):
        at = tree.at_rank(rank)
        counts = {}
        for call in calls:
            counts[int(at[call])] = counts.get(int(at[call]), 0) + 1
        for taxon, reads in counts.items():
            if taxon >= 0:
                path = ["" for _ in range(depth)]
                for one in tree.lineage(taxon):
                    if tree.taxa[one].rank in RANKS[:depth]:
                        path[RANKS.index(tree.taxa[one].rank)] = str(tree.taxa[one].taxid)
                percentage = 100 * reads / len(calls)
                rows.append(f"{tree.taxa[taxon].taxid}\t{rank}\t{'|'.join(path)}\t{'|'.join(path)}\t{percentage:.12f}")
    head = ["@SampleID:sample", "@Version:0.10.0", f"@Ranks:{'|'.join(RANKS)}"]
    return "\n".join([*head, "@@TAXID\tRANK\tTAXPATH\tTAXPATHSN\tPERCENTAGE", *rows, ""])


def _tsv(path):
    with open(path, newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def test_amber_finds_the_same_in_the_same_calls(called_reads, tmp_path):
    folder, ours = called_reads
    shutil.copytree(DATA / "taxonomy", tmp_path / "taxonomy")
    (tmp_path / "taxonomy" / "merged.dmp").write_text("12\t|\t562\t|\n")
    run_tool(
        *("amber.py", "-g", folder / "gold.binning", "-l", "ours", "--ncbi_dir", tmp_path / "taxonomy"),
        *("--skip_gs", "--silent", "-o", tmp_path / "amber", folder / "ours.binning"),
    )
    theirs = {row["rank"]: row for row in _tsv(tmp_path / "amber" / "results.tsv") if row["Tool"] == "ours"}
    assert set(ours) <= set(theirs)
    names = {
        "completeness": "recall_avg_seq",
        "purity": "precision_avg_seq",
        "f1": "f1_score_seq",
        "misclassification": "misclassification_seq",
        "accuracy": "accuracy_seq",
    }
    for rank, mine in ours.items():
        for name, column in names.items():
            assert getattr(mine, name) == pytest.approx(float(theirs[rank][column]), abs=1e-9), (rank, name)


def test_opal_finds_the_same_in_the_same_profiles(called_reads, tmp_path):
    folder, ours = called_reads
    run_tool(
        *("opal.py", "-g", folder / "gold.profile", "-l", "counted,estimated", "--silent", "-o", tmp_path / "opal"),
        *(folder / "ours.profile", folder / "estimated.profile"),
    )
    theirs = {
        (row["tool"], row["rank"], row["metric"]): row["value"] for row in _tsv(tmp_path / "opal" / "results.tsv")
    }
    names = {
        "l1": "L1 norm error",
        "bray_curtis": "Bray-Curtis distance",
        "completeness": "Completeness",
        "purity": "Purity",
        "f1": "F1 score",
    }
    for rank, mine in ours.items():
        for name, metric in names.items():
            for tool, figures in (("counted", mine.counted), ("estimated", mine.estimated)):
                found = float(theirs[tool, rank, metric])
                assert getattr(figures, name) == pytest.approx(found, abs=1e-9), (tool, rank, name)
