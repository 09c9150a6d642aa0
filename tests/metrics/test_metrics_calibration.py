"""Reliability diagrams and expected calibration error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.metrics.calibration import reliability


def test_two_bins_by_hand():
    found = reliability(np.array([0.2, 0.4, 0.9, 0.7, 0.8]), np.array([0, 1, 1, 1, 0]), bins=2)
    assert found.edges.tolist() == [0.0, 0.5, 1.0]
    assert found.reads.tolist() == [2, 3]
    assert found.confidence.tolist() == pytest.approx([0.3, 0.8])
    assert found.accuracy.tolist() == pytest.approx([0.5, 2 / 3])
    assert found.ece == pytest.approx(2 / 5 * 0.2 + 3 / 5 * (0.8 - 2 / 3))


def test_a_confidence_on_an_edge_is_in_the_bin_below():
    assert reliability(np.array([0.0, 0.5, 1.0]), np.array([1, 1, 1]), bins=2).reads.tolist() == [2, 1]


def test_empty_bins_are_zeros_and_no_reads_are_no_error():
    found = reliability(np.array([0.95]), np.array([True]), bins=15)
    assert found.reads.sum() == 1
    assert np.isfinite(found.confidence).all()
    nothing = reliability(np.zeros(0), np.zeros(0))
    assert (nothing.ece, nothing.reads.sum()) == (0.0, 0)


def test_certain_calls_of_which_half_are_right_have_an_error_of_half():
    assert reliability(np.ones(10), np.arange(10) % 2).ece == pytest.approx(0.5)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50), st.integers(1, 20))
def test_the_error_is_between_that_of_the_means_and_1(reads, bins):
    confidence, correct = np.array([one for one, _ in reads]), np.array([one for _, one in reads])
    found = reliability(confidence, correct, bins)
    assert abs(confidence.mean() - correct.mean()) - 1e-9 <= found.ece <= 1
    assert found.reads.sum() == len(reads)


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match="no probabilities"):
        reliability(np.array([1.5]), np.array([True]))
