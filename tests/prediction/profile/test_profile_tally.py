"""Counting calls: the same however they come, and kept over a break."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.prediction.profile.called import TREE, call, flat, place

from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.calling import REASONS
from metagene_classifier.prediction.profile.estimate import SAY_NOTHING
from metagene_classifier.prediction.profile.lengths import equal_bins, fine_bins
from metagene_classifier.prediction.profile.tally import SampleTally


def test_what_is_counted() -> None:
    tally = SampleTally(TREE)
    tally.add(
        [
            call(place(200), 0, confidence=0.97, length=100),
            call(place(200), 1, confidence=0.91, length=250),  # its strain was likelier than the species' own class
            call(place(20), 2, confidence=1.0, length=150),  # sure of the genus alone
            call(0, 3, confidence=0.42, length=90),
            call(0, -1, confidence=0.0, length=0, reason="no bases"),
        ]
    )
    tally.add([call(place(210), 3, confidence=0.05, length=300, mates=2)])
    assert tally.direct[[0, place(200), place(20), place(210)]].tolist() == [2, 2, 1, 1]
    assert tally.direct.sum() == tally.reads == 6
    assert tally.observed.tolist() == [1, 1, 1, 1, 2]
    assert (tally.pairs, tally.bases, tally.unclassified) == (1, 890, 2)
    assert tally.reasons == {"not sure enough": 1, "no bases": 1}
    bins = np.flatnonzero(tally.confidence_counts).tolist()
    assert bins == [0, 1, 8, 18, 19] and tally.confidence_counts[19] == 2


def test_counts_of_clades() -> None:
    tally = SampleTally(TREE)
    tally.add([call(place(2001), 1)] * 3 + [call(place(200), 0)] * 2 + [call(place(20), 2)] + [call(place(210), 3)] * 4)
    tally.add([call(0, 0)] * 5)
    clade = tally.clade(TREE)
    found = {taxid: int(clade[place(taxid)]) for taxid in (2001, 200, 201, 20, 21, 2)}
    assert found == {2001: 3, 200: 5, 201: 0, 20: 6, 21: 4, 2: 10}
    assert clade[0] == 10  # unclassified reads are in no clade


calls = st.builds(
    call,
    st.integers(0, len(TREE) - 1),
    st.integers(-1, 3),
    confidence=st.floats(0, 1),
    length=st.integers(0, 40_000_000),
    mates=st.sampled_from([1, 2]),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(calls, max_size=30), st.data())
def test_parts_that_are_joined_equal_one_pass(all_calls: list[Call], data: st.DataObject) -> None:
    whole = SampleTally(TREE)
    whole.add(all_calls)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(all_calls)), max_size=3)))
    joined = SampleTally(TREE)
    for begin, end in zip([0, *cuts], [*cuts, len(all_calls)], strict=True):
        part = SampleTally(TREE)
        part.add(all_calls[begin:end])
        joined.merge(part)
    assert joined.as_json() == whole.as_json()
    again = SampleTally.from_json(json.loads(json.dumps(joined.as_json())), TREE)
    assert again.as_json() == whole.as_json()
    assert again.length_counts.tolist() == whole.length_counts.tolist()


def test_a_tally_of_another_model_is_not_added() -> None:
    with pytest.raises(ValueError, match="different models"):
        SampleTally(TREE).merge(SampleTally(flat(3)))


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def test_nonsense_is_no_tally() -> None:
    tally = SampleTally(TREE)
    tally.add([call(place(210), 3)] * 2 + [call(0, 0)])
    good = tally.as_json()
    assert SampleTally.from_json(good, TREE).reads == 3
    bad: list[Any] = [
        {},
        _without(good, "direct"),
        good | {"version": 99},
        good | {"reads": 4},
        good | {"reads": -3},
        good | {"reads": "3"},
        good | {"bases": 1.5},
        good | {"direct": [[0, 1000], [1, 2]]},
        good | {"direct": [[0], [1, 2]]},
        good | {"direct": 3},
        good | {"reasons": {}},
        good | {"reasons": None},
    ]
    for values in bad:
        with pytest.raises(ValueError):
            SampleTally.from_json(values, TREE)
    with pytest.raises(ValueError):
        SampleTally.from_json(good, flat(2))


def test_lengths_in_bins_of_equal_width() -> None:
    def binned(*lengths: int) -> tuple[list[int], list[int]]:
        counts = np.bincount(fine_bins(np.array(lengths)), minlength=512 + 64 * 15)
        edges, summed = equal_bins(counts)
        return edges.tolist(), summed.tolist()

    assert binned(150, 150, 150) == ([150, 151], [3])
    assert binned(100, 101, 103) == ([100, 101, 102, 103, 104], [1, 1, 0, 1])
    edges, counts = binned(0, 20_000, 39_000)
    assert len(counts) <= 40 and counts[0] == 1 and sum(counts) == 3
    assert edges[-1] > 38_600 and edges[-2] <= 39_000
    assert equal_bins(np.zeros(512 + 64 * 15, np.int64))[1].tolist() == [0]


@settings(deadline=None)
@given(st.integers(0, 2**30))
def test_a_long_read_is_counted_within_a_hundredth_of_its_length(length: int) -> None:
    from metagene_classifier.prediction.profile.lengths import FINE_EDGES

    begin = FINE_EDGES[fine_bins(np.array([length]))[0]]
    assert begin <= length
    assert (length < 512 * 2**15 - 200_000 and length - begin <= length * 0.0115) or length > 16_000_000


def test_reasons_that_say_nothing_of_the_organism_are_reasons() -> None:
    assert set(SAY_NOTHING) < set(REASONS)
