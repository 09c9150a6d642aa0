"""Temperatures: what they are on scores whose right one is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.calling.temperature import (
    fit_temperature,
    fit_temperatures,
    mates_of,
    read_losses,
    summed,
    temperatures_of,
)
from metagene_classifier.model.calibration import TemperatureFacts
from metagene_classifier.model.scoring import probabilities_of


def scores_of(reads: int, temperature: float, seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are ``temperature`` times too sure, and classes drawn by the honest probabilities."""
    generator = np.random.default_rng(seed)
    honest = generator.normal(0, 2, (reads, classes))
    probabilities = probabilities_of(honest)
    truth = (probabilities.cumsum(axis=1) < generator.random((reads, 1))).sum(axis=1).clip(0, classes - 1)
    return (honest * temperature).astype(np.float32), truth.astype(np.int64)


def alone(reads: int) -> np.ndarray:
    return np.arange(reads).astype(np.uint64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_overconfidence_is_measured(temperature):
    scores, truth = scores_of(20_000, temperature)
    assert fit_temperature(scores, truth) == pytest.approx(temperature, rel=0.05)


def test_two_classes_by_hand():
    # Score difference 2, right in 3 of 4: the odds of 3 need a difference of ln 3, so a temperature of 2 / ln 3.
    scores = np.tile(np.array([[2.0, 0.0]], np.float32), (4000, 1))
    truth = np.tile([0, 0, 0, 1], 1000)
    assert fit_temperature(scores, truth) == pytest.approx(2 / np.log(3), rel=2e-3)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.3, 3.0))
def test_scores_that_are_so_many_times_as_large_need_as_many_times_the_temperature(factor):
    scores, truth = scores_of(3000, 1.0, seed=5)
    assert fit_temperature(scores * np.float32(factor), truth) == pytest.approx(
        factor * fit_temperature(scores, truth), rel=0.01
    )


def test_a_few_reads_that_are_all_called_right_are_not_taken_for_certainty():
    scores = np.tile(np.array([[3.0, 0.0]], np.float32), (10, 1))
    assert 0.3 < fit_temperature(scores, np.zeros(10, np.int64)) < 1.0


def test_losses_are_those_of_the_softmax():
    scores, truth = scores_of(50, 2.0)
    expected = -np.log(probabilities_of(scores.astype(np.float64) / 1.7)[np.arange(50), truth])
    np.testing.assert_allclose(read_losses(scores, truth, 1.7), expected, rtol=1e-4, atol=1e-5)


def test_mates_that_repeat_one_another_need_twice_the_temperature():
    scores, truth = scores_of(2000, 1.5)
    twice, groups = np.repeat(scores, 2, axis=0), np.repeat(alone(2000), 2)
    facts = fit_temperatures(twice, np.repeat(truth, 2), np.full(4000, 40), groups)
    assert facts.pairs_measured
    assert facts.pairs == pytest.approx(2 * facts.single, rel=0.02)


def test_mates_that_are_independent_need_no_more_than_single_reads():
    generator = np.random.default_rng(3)
    truth = np.tile([0, 1], 4000)
    # Two classes with normal evidence of variance 2 m about mean m: the honest log-odds are the evidence itself.
    odds = generator.normal(np.where(truth == 0, 1.0, -1.0)[:, None], np.sqrt(2.0), (8000, 2))
    scores = np.stack([odds, np.zeros_like(odds)], axis=2).astype(np.float32)
    flat = scores.reshape(16_000, 2)
    facts = fit_temperatures(flat, np.repeat(truth, 2), np.full(16_000, 40), np.repeat(alone(8000), 2))
    assert facts.single == pytest.approx(1.0, rel=0.08)
    assert facts.pairs == pytest.approx(1.0, rel=0.08)


def test_without_pairs_two_mates_are_no_more_evidence_than_one():
    scores, truth = scores_of(1000, 1.5)
    facts = fit_temperatures(scores, truth, np.full(1000, 40), alone(1000))
    assert not facts.pairs_measured
    assert facts.pairs == 2 * facts.single


def test_a_pair_that_repeats_itself_is_as_sure_as_its_mate():
    scores, _ = scores_of(20, 1.0)
    both = probabilities_of(summed(scores, scores) / 2.0)
    np.testing.assert_allclose(both, probabilities_of(scores), atol=1e-6)


def test_groups_of_two_reads_of_one_class_are_pairs():
    groups = np.array([7, 3, 7, 9, 3, 5, 5, 5], np.uint64)
    truth = np.array([1, 0, 1, 0, 2, 0, 0, 0])  # the reads of group 3 are of two classes; group 5 has three reads
    first, second = mates_of(groups, truth)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 2)]


def test_lengths_get_temperatures_of_their_own_where_they_differ():
    short, long = scores_of(3000, 3.0, seed=1), scores_of(3000, 1.0, seed=2)
    scores, truth = (np.concatenate(parts) for parts in zip(short, long, strict=True))
    tokens = np.repeat([20, 80], 3000)
    facts = fit_temperatures(scores, truth, tokens, alone(6000))
    assert [start for start, _ in facts.by_length] == [0, 80]
    found = temperatures_of(facts, np.array([5, 79, 80, 500])).tolist()
    assert found[:2] == pytest.approx([3.0, 3.0], rel=0.1)
    assert found[2:] == pytest.approx([1.0, 1.0], rel=0.1)


def test_lengths_that_do_not_differ_share_one_temperature():
    scores, truth = scores_of(6000, 2.0)
    facts = fit_temperatures(scores, truth, np.tile([20, 40, 60, 80], 1500), alone(6000))
    assert facts.by_length == ()
    assert temperatures_of(facts, np.array([1, 1000])).tolist() == [facts.single] * 2


def test_lengths_of_few_reads_are_not_looked_at():
    scores, truth = scores_of(600, 2.0)
    facts = fit_temperatures(scores, truth, np.repeat([20, 80], 300), alone(600))
    assert facts.by_length == ()


def test_facts_refuse_a_temperature_of_nothing():
    with pytest.raises(ValueError, match="greater than 0"):
        TemperatureFacts(single=0.0, pairs=1.0, pairs_measured=False, reads=1)
