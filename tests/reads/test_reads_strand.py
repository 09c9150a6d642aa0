"""The other strand: hand-computed, and its own inverse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.reads.base_codes import LETTERS
from metagene_classifier.reads.strand import COMPLEMENT_OF_CODES, reverse_complement

IUPAC = "ACGTRYKMSWBDHVN"


@pytest.mark.parametrize(
    ("read", "other"),
    [
        ("", ""),
        ("A", "T"),
        ("AACGT", "ACGTT"),
        ("GATTACA", "TGTAATC"),
        ("ACGTNNA", "TNNACGT"),
        ("RYKMSW", "WSKMRY"),
        ("BDHV", "BDHV"),
        ("AAaaCCc", "gGGttTT"),
        ("AUGC", "GCAT"),
        ("AC-GT", "AC-GT"),
        ("AC-G", "C-GT"),
    ],
)
def test_every_base_stands_opposite_to_its_complement_and_the_direction_is_turned(read, other):
    assert reverse_complement(read) == other


@given(st.text(IUPAC + IUPAC.lower()))
def test_the_other_strand_of_the_other_strand_is_the_read(read):
    assert reverse_complement(reverse_complement(read)) == read


def test_the_codes_of_several_bases_stand_opposite_to_those_of_their_complements():
    """By what each code means (Nucleic Acids Research 13, 3021, 1985)."""
    means = dict(
        zip(
            IUPAC,
            ["A", "C", "G", "T", "AG", "CT", "GT", "AC", "CG", "AT", "CGT", "AGT", "ACT", "ACG", "ACGT"],
            strict=True,
        )
    )
    for code, bases in means.items():
        assert set(means[reverse_complement(code)]) == {reverse_complement(base) for base in bases}, code


@given(st.text(LETTERS))
def test_codes_of_bases_have_the_same_complements(read):
    codes = np.array([LETTERS.index(base) for base in read], np.int64)
    turned = np.array(COMPLEMENT_OF_CODES)[codes[::-1]]
    assert "".join(LETTERS[code] for code in turned.tolist()) == reverse_complement(read)
