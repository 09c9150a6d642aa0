"""Reads by length, error rate and strand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.metrics.groups import GroupCounts, error_rate_bins, length_bins

OUTCOMES = ("likeliest", "called", "correct", "vague")


def outcome(*rows):
    """Of rows of ``(likeliest, called, correct, vague)``."""
    return dict(zip(OUTCOMES, np.array(rows, bool).reshape(-1, 4).T, strict=True))


def test_lengths_fall_into_bins_with_names_for_people():
    bins = length_bins()
    lengths = np.array([30, 49, 50, 99, 100, 149, 150, 151, 9_999, 10_000, 60_000])
    assert [bins.names[place] for place in bins.places(lengths)] == [
        *("under 50 bp", "under 50 bp", "50 to 74 bp", "75 to 99 bp", "100 to 149 bp", "100 to 149 bp"),
        *("150 to 199 bp", "150 to 199 bp", "5,000 to 9,999 bp", "10,000 bp and more", "10,000 bp and more"),
    ]


def test_no_error_at_all_is_a_bin_of_its_own_and_an_unknown_rate_none():
    bins = error_rate_bins()
    places = bins.places(np.array([0.0, 1e-9, 0.001, 0.0199, 0.02, 0.1, 1.0, np.nan]))
    assert [bins.names[place] if place >= 0 else None for place in places] == [
        *("none", "under 0.1%", "0.1% to 0.2%", "1.0% to 2.0%", "2.0% to 5.0%"),
        *("10.0% and more", "10.0% and more", None),
    ]


def test_figures_of_groups_by_hand():
    counts = GroupCounts("strand", ("+", "-"))
    counts.add(
        np.array([0, 0, 0, 1, 0, -1]),
        **outcome(
            (1, 1, 1, 0),  # right
            (1, 0, 0, 0),  # its likeliest class was right, and refused
            (0, 1, 0, 0),  # wrong
            (1, 1, 1, 0),
            (0, 1, 0, 1),  # vague
            (1, 1, 1, 0),  # of no group
        ),
    )
    plus, minus = counts.figures().rows
    assert (plus.name, plus.reads, plus.called, plus.correct) == ("+", 4, 3, 1)
    assert (plus.accuracy, plus.precision, plus.sensitivity) == (0.5, 0.5, 0.25)
    assert (minus.reads, minus.accuracy, minus.precision, minus.sensitivity) == (1, 1, 1, 1)


def test_groups_without_reads_are_left_out():
    counts = GroupCounts("strand", ("+", "-"))
    assert counts.figures() is None
    counts.add(np.array([1, -1]), **outcome((0, 0, 0, 0), (1, 1, 1, 0)))
    (row,) = counts.figures().rows
    assert row.name == "-" and row.precision is None and row.sensitivity == 0


@given(
    st.lists(st.tuples(st.integers(-1, 3), st.booleans(), st.sampled_from(["right", "vague", "wrong", "not"]))),
    st.integers(1, 5),
)
def test_groups_are_the_same_however_the_reads_are_cut_into_blocks(reads, size):
    def of(kind, likeliest):
        return likeliest, kind != "not", kind == "right", kind == "vague"

    def add(counts, part):
        counts.add(np.array([place for place, *_ in part], np.int64), **outcome(*(of(k, o) for _, o, k in part)))

    whole, pieces = GroupCounts("length", "abcd"), GroupCounts("length", "abcd")
    add(whole, reads)
    for start in range(0, len(reads), size):
        add(pieces, reads[start : start + size])
    assert whole.figures() == pieces.figures()
    rows = whole.figures().rows if whole.figures() else ()
    assert sum(row.reads for row in rows) == sum(place >= 0 for place, *_ in reads)
    for row in rows:
        assert row.precision is None or row.sensitivity <= row.precision <= 1
