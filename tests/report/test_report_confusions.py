"""The confusion matrix as the page shows it: cells, groups of classes, and the worst pairs."""

import numpy as np
import pytest

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.reads.taxonomy import Taxonomy
from metagene_classifier.report.class_groups import group_classes
from metagene_classifier.report.confusion_section import confusion_section, most_taken_for
from metagene_classifier.report.heat_map import confusion_heat_map, short_share
from metagene_classifier.report.page import DataTable, Figure


def tree_of(tmp_path, classes, per_genus, per_family, without=0):
    """Species 1,000 and up, so many in a genus and so many in a family; the last ones the taxonomy does not have."""
    rows = ["1\t1\tno rank\troot"]
    for number in range(classes - without):
        genus, family = 10_000 + number // per_genus, 20_000 + number // per_family
        rows.append(f"{1000 + number}\t{genus}\tspecies\tspecies {number}")
        rows.append(f"{genus}\t{family}\tgenus\tgenus {number // per_genus}")
        rows.append(f"{family}\t1\tfamily\tfamily {number // per_family}")
    (tmp_path / "taxonomy.tsv").write_text("taxid\tparent\trank\tname\n" + "\n".join(dict.fromkeys(rows)) + "\n")
    labels = Labels(tuple(ClassLabel(str(number), f"species {number}", 1000 + number) for number in range(classes)))
    return ClassTree.of(labels, Taxonomy.load(tmp_path / "taxonomy.tsv"))


def names(classes):
    return [f"species {number}" for number in range(classes)]


def test_classes_are_grouped_by_the_lowest_rank_that_has_few_enough_taxa(tmp_path):
    tree = tree_of(tmp_path, classes=60, per_genus=2, per_family=20)
    confusion = np.eye(60, dtype=np.int64)
    assert group_classes(confusion, names(60), tree, most=40).rank == "genus"
    by_family = group_classes(confusion, names(60), tree, most=10)
    assert by_family.rank == "family"
    assert by_family.names == ("family 0", "family 1", "family 2")
    assert by_family.members[1].tolist() == list(range(20, 40))


def test_classes_that_the_taxonomy_lacks_are_a_group_of_their_own(tmp_path):
    tree = tree_of(tmp_path, classes=50, per_genus=2, per_family=25, without=3)
    groups = group_classes(np.eye(50, dtype=np.int64), names(50), tree)
    assert groups.names[-1] == "without genus"
    assert groups.members[-1].tolist() == [47, 48, 49]


@pytest.mark.parametrize("with_taxonomy", [False, True])
def test_groups_hold_every_class_once_and_every_read(tmp_path, with_taxonomy):
    tree = tree_of(tmp_path, classes=90, per_genus=1, per_family=90) if with_taxonomy else None
    confusion = np.random.default_rng(1).integers(0, 4, (90, 90))
    groups = group_classes(confusion, names(90), tree)
    assert len(groups.names) <= 40
    assert sorted(groups.order.tolist()) == list(range(90))
    assert groups.summed(confusion).sum() == confusion.sum()


def test_groups_sum_reads_up(tmp_path):
    tree = tree_of(tmp_path, classes=6, per_genus=2, per_family=6)
    confusion = np.zeros((6, 6), np.int64)
    confusion[0, 1], confusion[1, 4], confusion[5, 5] = 3, 2, 7
    groups = group_classes(confusion, names(6), tree)
    assert groups.names == ("genus 0", "genus 1", "genus 2")
    assert groups.summed(confusion).tolist() == [[3, 0, 2], [0, 0, 0], [0, 0, 7]]


def test_without_a_taxonomy_classes_that_are_confused_lie_side_by_side():
    confusion = 10 * np.eye(60, dtype=np.int64)
    confusion[3, 51] = confusion[51, 3] = 9
    groups = group_classes(confusion, names(60), None)
    assert any({3, 51} <= set(members.tolist()) for members in groups.members)


def test_cells_tell_shares_of_their_row():
    heat = confusion_heat_map(np.array([[30, 10], [0, 0]]), ["virus", "host"], caption="")
    assert [(cell.reads, cell.share_text) for cell in heat.cells[0]] == [(30, "75%"), (10, "25%")]
    assert heat.cells[1] == [None, None]
    assert heat.totals == [40, 0]


def test_no_cell_claims_all_or_nothing_where_it_is_not():
    assert [short_share(share) for share in (0.0, 0.004, 0.01, 0.994, 1.0)] == ["0%", "<1%", "1%", ">99%", "100%"]


def test_few_classes_are_shown_cell_by_cell_and_many_in_groups(tmp_path):
    few = confusion_section(np.array([[5, 1], [0, 3]]), ["a", "b"], None)
    assert [part.caption for part in few.parts] == ["Confusion matrix", "Most confused pairs"]
    tree = tree_of(tmp_path, classes=60, per_genus=2, per_family=20)
    confusion = 5 * np.eye(60, dtype=np.int64)
    confusion[2, 3], confusion[2, 59] = 4, 1
    many = confusion_section(confusion, names(60), tree)
    assert [part.caption for part in many.parts] == [
        "Confusion matrix by genus",
        "All classes",
        "Most confused pairs",
    ]
    assert isinstance(many.parts[1], Figure)
    pairs = many.parts[2]
    assert isinstance(pairs, DataTable)
    assert pairs.rows == [
        ["species 2", "species 3", 4, 0.4, "genus 1 (genus)"],
        ["species 2", "species 59", 1, 0.1, "of no common taxon"],
    ]


def test_a_perfect_model_has_no_table_of_confused_pairs():
    assert [part.caption for part in confusion_section(np.eye(2, dtype=int), ["a", "b"], None).parts] == [
        "Confusion matrix"
    ]


def test_each_class_tells_what_it_is_mostly_taken_for():
    confusion = np.array([[6, 1, 3], [0, 5, 0], [0, 0, 0]])
    assert most_taken_for(confusion, ["a", "b", "c"]) == ["c (30%)", None, None]
