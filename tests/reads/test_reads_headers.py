"""A labelled header gives its class; mates of a pair share a key, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.config import DEFAULT_HEADER_REGEX
from metagene_classifier.reads.headers import HeaderPattern, ParsedHeader, mate_key

DEFAULT = HeaderPattern(DEFAULT_HEADER_REGEX)


@pytest.mark.parametrize(
    ("header", "parsed"),
    [
        ("lbl|12|562|150|read7/1", ParsedHeader("12", "562", "150", "read7", "1")),
        ("lbl|12|562|150|read7", ParsedHeader("12", "562", "150", "read7")),
        ("lbl|12||150|read7/2", ParsedHeader("12", None, "150", "read7", "2")),
        ("lbl|12", ParsedHeader("12")),
        ("lbl|E. coli|562|150|a b c/2", ParsedHeader("E. coli", "562", "150", "a b c", "2")),
        ("lbl|1|2|3|gi|404|ref|NC_1|:5-9:+", ParsedHeader("1", "2", "3", "gi|404|ref|NC_1|:5-9:+")),
        ("lbl||562|150|read7", None),
        ("read7 lbl|12|562|150|x", None),
        ("HISEQ:497:1 1:N:0:TTCG", None),
        ("", None),
    ],
)
def test_default_pattern(header, parsed):
    assert DEFAULT.parse(header) == parsed


def test_a_pattern_needs_no_group_but_the_class():
    assert HeaderPattern(r"class=(?P<class_id>\w+)").parse("r1 class=ecoli x") == ParsedHeader("ecoli")


@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        ("r1/1", "r1/2", "r1"),
        ("EAS20_8_6_1_9_1972/1 trim=6", "EAS20_8_6_1_9_1972/2 correct", "EAS20_8_6_1_9_1972"),
        ("M1:2:FC:1:5 1:N:0:ACGT", "M1:2:FC:1:5 2:N:0:ACGT", "M1:2:FC:1:5"),
        ("M1:2:FC:1:5 1:Y:18:ACGT+TT", "M1:2:FC:1:5 2:Y:18:ACGT+TT", "M1:2:FC:1:5"),
        ("SRR1.7 7 length=150", "SRR1.7 7 length=148", "SRR1.7"),
        ("ERR5.41 EAS139_45:5:1/1", "ERR5.41 EAS139_45:5:1/2", "ERR5.41 EAS139_45:5:1"),
        ("lbl|3|562|150|E. coli K-12/1", "lbl|3|562|150|E. coli K-12/2", "lbl|3|562|150|E. coli K-12"),
        ("same", "same", "same"),
    ],
)
def test_mates_share_a_key(first, second, key):
    assert mate_key(first) == mate_key(second) == key


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("r1/1", "r11/1"),
        ("r1", "r2"),
        ("lbl|3|562|150|E. coli 1/1", "lbl|3|562|150|E. coli 2/1"),
        ("Escherichia coli 1", "Escherichia coli 2"),
        ("lbl|3|562|150|x", "lbl|4|562|150|x"),
        ("r/3", "r/4"),
    ],
)
def test_other_reads_do_not(first, second):
    assert mate_key(first) != mate_key(second)


@given(st.text("abcXYZ019_.:|/ ", min_size=1).map(str.strip).filter(bool))
def test_any_name_with_mate_numbers_behind_it_pairs(name):
    assert mate_key(f"{name}/1") == mate_key(f"{name}/2")
    assert mate_key(f"lbl|1|2|3|{name}/1") == mate_key(f"lbl|1|2|3|{name}/2") == f"lbl|1|2|3|{name}"
