"""Reads that say too little."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.calling.screening import complexities, low_complexity, too_short
from metagene_classifier.config import CallingConfig

LEAST = CallingConfig().min_complexity
BASES = random.Random(7)


def random_read(length: int) -> str:
    return "".join(BASES.choices("ACGT", k=length))


@pytest.mark.parametrize("unit", ["A", "C", "AC", "AG", "CAG", "AAT", "GATA", "TTAGGG", "CCCTAA", "TTTAGGG"])
@pytest.mark.parametrize("length", [50, 100, 150, 300])
def test_repeats_are_of_low_complexity(unit, length):
    assert low_complexity([(unit * length)[:length]], LEAST).tolist() == [True]


@pytest.mark.parametrize("length", [30, 50, 150, 300, 3000])
def test_other_reads_are_not(length):
    assert not low_complexity([random_read(length) for _ in range(200)], LEAST).any()


def test_reads_that_are_rich_in_two_bases_are_not():
    reads = ["".join(BASES.choices("ACGT", (4, 1, 1, 4), k=150)) for _ in range(200)]
    assert not low_complexity(reads, LEAST).any()


def test_a_read_that_is_half_a_repeat_is_judged_by_its_other_half():
    assert low_complexity(["A" * 60 + random_read(90), "A" * 130 + random_read(20)], LEAST).tolist() == [False, True]


def test_values_by_hand():
    # One triplet alone; two in turn, 5 and 4 of 9 triplets; four different ones.
    nine = -(5 / 9 * np.log(5 / 9) + 4 / 9 * np.log(4 / 9)) / np.log(9)
    np.testing.assert_allclose(complexities(["AAAAAA", "ACACACACACA", "ACGTTG"]), [0.0, nine, 1.0])


def test_triplets_with_an_unknown_base_do_not_count():
    assert complexities(["AAAANCCC", "AAAACCC"[:4] + "N" + "AAA"]).tolist() == pytest.approx(
        [-(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)) / np.log(3), 0.0]
    )


def test_a_read_without_three_known_bases_in_a_row_has_no_complexity_and_is_not_refused_for_it():
    assert np.isnan(complexities(["", "A", "AC", "NNNNNN", "ACNGTNAC"])).all()
    assert not low_complexity(["", "NNNN"], LEAST).any()
    assert complexities([]).tolist() == []


def test_nothing_is_below_zero():
    assert low_complexity(["AAAAAAAAAAAA"], 0.0).tolist() == [False]


@settings(deadline=None)
@given(st.lists(st.text("ACGTN", max_size=40), max_size=12), st.randoms())
def test_a_read_has_the_same_complexity_beside_whichever_others(reads, order):
    alone = [complexities([read])[0] for read in reads]
    np.testing.assert_array_equal(complexities(reads), np.array(alone, np.float64))
    shuffled = list(range(len(reads)))
    order.shuffle(shuffled)
    np.testing.assert_array_equal(complexities([reads[place] for place in shuffled]), np.array(alone)[shuffled])


def test_a_block_of_more_bases_than_are_worked_on_at_once(monkeypatch):
    reads = [random_read(BASES.randint(0, 60)) for _ in range(100)]
    whole = complexities(reads)
    monkeypatch.setattr("metagene_classifier.calling.screening.BASES_AT_ONCE", 50)
    np.testing.assert_array_equal(complexities(reads), whole)


def test_too_short_is_fewer_tokens_than_asked_for():
    assert too_short(np.array([0, 7, 8, 9]), 8).tolist() == [True, True, False, False]
    assert not too_short(np.array([0]), 0).any()
