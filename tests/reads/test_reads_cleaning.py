"""Lower case, RNA, gaps and ambiguity codes become what tokenizers know, and the user is told how much."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.reads.cleaning import CleaningCounts, clean_sequence


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("ACGTN", "ACGTN"),
        ("acgtn", "ACGTN"),
        ("AUGu", "ATGT"),
        ("A-C.G*T \tA\n", "ACGTA"),
        ("RYSWKMBDHVryswkmbdhv", "N" * 20),
        ("AXEé?", "ANNNN"),
        ("", ""),
        ("---", ""),
    ],
)
def test_every_letter_becomes_one_of_five(raw, cleaned):
    assert clean_sequence(raw) == cleaned


@given(st.text())
def test_only_five_letters_are_left_of_any_text_and_cleaning_twice_changes_nothing(text):
    cleaned = clean_sequence(text)
    assert set(cleaned) <= set("ACGTN")
    assert clean_sequence(cleaned) == cleaned


def counts_of(*sequences: str) -> CleaningCounts:
    counts = CleaningCounts()
    for sequence in sequences:
        counts.add(sequence, clean_sequence(sequence))
    return counts


def test_changes_are_counted_by_kind_in_reads_and_characters():
    counts = counts_of("ACGT", "acgu-", "AUR", "nNRY", "A C")
    assert counts.reads == 5
    assert (counts.lower_case.reads, counts.lower_case.bases) == (2, 5)
    assert (counts.u_to_t.reads, counts.u_to_t.bases) == (2, 2)
    assert (counts.gaps_removed.reads, counts.gaps_removed.bases) == (2, 2)
    assert (counts.ambiguous_to_n.reads, counts.ambiguous_to_n.bases) == (2, 3)


def test_the_summary_is_one_line_and_silent_when_nothing_changed():
    assert counts_of("ACGT", "NNN").summary() is None
    assert (
        counts_of("ACGT", "acguR").summary() == "cleaned, of 2 reads: lower case to upper in 1 (4 characters); "
        "U to T in 1 (1 characters); other letters to N in 1 (1 characters)"
    )


@pytest.mark.parametrize("sequence", ["ACGTA" * 30, "acgta" * 30, "ACGUR" * 30])
def test_a_million_reads_take_less_than_a_minute(sequence):
    counts = CleaningCounts()
    start = time.process_time()
    for _ in range(10_000):
        counts.add(sequence, clean_sequence(sequence))
    assert time.process_time() - start < 0.6
