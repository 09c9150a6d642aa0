"""The ladders give the rule's calls, and thresholds are counted as Kraken 2's paper counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.calling.small_tree import LABELS, TREE

from metagene_classifier.calling.rule import decide
from metagene_classifier.calling.thresholds import best_threshold, cut_off_table, ladders, outcomes
from metagene_classifier.calling.tree import ClassTree

FLAT = ClassTree.of(LABELS, None)
PRIMA, SECUNDA, BETA, SARBECO, COVID = TREE.taxon_of_class.tolist()
SHARES = st.lists(st.integers(0, 20), min_size=5, max_size=5).filter(any)


def called_at(threshold: float, probabilities: np.ndarray, tree: ClassTree) -> list[int]:
    """What the ladders say that reads are called."""
    rungs = ladders(probabilities, tree)
    calls = [0] * len(probabilities)
    for read, taxon, highest, lowest in zip(rungs.reads, rungs.taxa, rungs.highest, rungs.lowest, strict=True):
        if lowest < threshold - 1e-6 <= highest:
            assert calls[read] == 0
            calls[read] = int(taxon)
    return calls


@settings(deadline=None)
@given(st.lists(SHARES, min_size=1, max_size=6), st.integers(1, 100), st.booleans())
def test_at_every_threshold_the_ladders_call_what_the_rule_calls(shares, hundredths, with_taxonomy):
    tree = TREE if with_taxonomy else FLAT
    probabilities = (np.array(shares) / np.sum(shares, axis=1, keepdims=True)).astype(np.float32)
    threshold = hundredths / 100
    assert called_at(threshold, probabilities, tree) == decide(probabilities, tree, threshold).taxa.tolist()


def test_calls_of_four_known_reads_by_hand():
    truth = np.array([PRIMA, PRIMA, PRIMA, BETA])
    probabilities = np.array(
        [
            [0.90, 0.05, 0.05, 0.00, 0.00],  # right up to 0.9, then at the genus (0.95), vague
            [0.50, 0.45, 0.05, 0.00, 0.00],  # right up to 0.5, then vague
            [0.10, 0.70, 0.20, 0.00, 0.00],  # wrong up to 0.7, then vague at the genus (0.8) and above
            [0.00, 0.00, 0.10, 0.20, 0.70],  # wrong up to 0.7, and at the species above up to 0.9
        ],
        np.float32,
    )
    found = outcomes(ladders(probabilities, TREE), truth, TREE, thresholds=np.array([0.4, 0.6, 0.8, 0.92, 0.97]))
    assert found.right.tolist() == [2, 1, 1, 0, 0]
    assert found.vague.tolist() == [0, 1, 2, 3, 3]
    assert found.wrong.tolist() == [2, 2, 1, 0, 0]
    assert found.precision.tolist() == pytest.approx([2 / 4, 1 / 3, 1 / 2, 1, 1])
    assert found.sensitivity.tolist() == pytest.approx([2 / 4, 1 / 4, 1 / 4, 0, 0])
    assert found.f1.tolist() == pytest.approx([0.5, 2 / 7, 1 / 3, 0, 0])


def test_a_stranger_can_be_called_vaguely_or_wrongly_and_never_right():
    # prima was left out: its probability is 0 for a head that does not have it.
    probabilities = np.array([[0.0, 0.6, 0.4, 0.0, 0.0], [0.0, 0.0, 0.1, 0.9, 0.0]], np.float32)
    found = outcomes(
        ladders(probabilities, TREE), np.array([PRIMA, PRIMA]), TREE, known=False, thresholds=np.array([0.5, 0.7, 0.95])
    )
    # The first is called its sister, and above 0.6 (secunda and the genus alike) a bacterium; the second a virus.
    assert found.right.tolist() == [0, 0, 0]
    assert found.vague.tolist() == [0, 1, 1]
    assert found.wrong.tolist() == [2, 1, 0]
    assert found.reads == 0


def test_a_stranger_that_is_called_its_own_taxon_by_a_class_that_shares_it_is_not_right():
    probabilities = np.array([[0.9, 0.1, 0.0, 0.0, 0.0]], np.float32)
    found = outcomes(ladders(probabilities, TREE), np.array([PRIMA]), TREE, known=False, thresholds=np.array([0.5]))
    assert (found.right.tolist(), found.vague.tolist(), found.wrong.tolist()) == ([0], [1], [0])


def test_refused_reads_count_as_reads_and_not_as_calls():
    probabilities = np.array([[0.9, 0.1, 0, 0, 0], [0.9, 0.1, 0, 0, 0]], np.float32)
    found = outcomes(
        ladders(probabilities, FLAT),
        np.array([1, 1]),
        FLAT,
        refused=np.array([False, True]),
        thresholds=np.array([0.5]),
    )
    assert (found.right.tolist(), found.wrong.tolist(), found.reads) == ([1], [0], 2)
    assert found.sensitivity.tolist() == [0.5]


def test_known_reads_alone_refuse_nothing_and_strangers_raise_the_threshold():
    known = np.array([[0.9, 0.1, 0, 0, 0]] * 6 + [[0.55, 0.45, 0, 0, 0]] * 2, np.float32)
    strange = np.array([[0.6, 0.4, 0, 0, 0]] * 8, np.float32)
    truth = FLAT.taxon_of_class[np.zeros(8, np.int64)]
    alone = outcomes(ladders(known, FLAT), truth, FLAT)
    threshold, f1 = best_threshold(alone)
    assert (threshold < 0.55, f1) == (True, 1.0)
    both = alone + outcomes(ladders(strange, FLAT), FLAT.taxon_of_class[np.full(8, 4)], FLAT, known=False)
    threshold, f1 = best_threshold(both)
    # Above 0.6 no stranger is called, and 6 of 8 known reads are: precision 1, sensitivity 3/4.
    assert threshold == pytest.approx(0.605)
    assert f1 == pytest.approx(2 * 0.75 / 1.75)
    row = next(row for row in cut_off_table(alone, both) if row.threshold == threshold)
    assert (row.precision, row.sensitivity, row.called) == (1.0, 0.75, 6)


def test_weighed_strangers_count_as_so_many_reads():
    strange = np.array([[0.6, 0.4, 0, 0, 0]], np.float32)
    found = outcomes(ladders(strange, FLAT), np.array([5]), FLAT, known=False, weight=2.5, thresholds=np.array([0.5]))
    assert found.wrong.tolist() == [2.5]


def test_thresholds_at_which_all_calls_are_vague_say_nothing_of_precision():
    probabilities = np.array([[0.6, 0.4, 0.0, 0.0, 0.0]], np.float32)
    found = outcomes(ladders(probabilities, TREE), np.array([PRIMA]), TREE)
    table = cut_off_table(found, found)
    assert found.vague[-1] == 1  # surely of the genus
    assert max(row.threshold for row in table) == pytest.approx(0.6)
    assert {row.precision for row in table} == {1.0}
