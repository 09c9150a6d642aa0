"""A model's confidence from its description."""

from __future__ import annotations

import numpy as np
import pytest

from metagene_classifier.calling.calibrated import Calibrator
from metagene_classifier.calling.temperature import summed
from metagene_classifier.errors import ConfigError
from metagene_classifier.model.calibration import (
    CalibrationFacts,
    CutOff,
    RefusalFacts,
    ReliabilityFacts,
    ScoreFacts,
    TemperatureFacts,
)
from metagene_classifier.model.scoring import probabilities_of

SCORES = np.array([[4.0, 0.0, -1.0], [0.5, 0.25, 0.0]], np.float32)
TOKENS = np.array([20, 60])
EMPTY = ReliabilityFacts(edges=(0.0, 1.0), reads=(0,), confidence=(0.0,), accuracy=(0.0,), ece=0.0)


def cut_off(threshold: float, precision: float) -> CutOff:
    return CutOff(threshold=threshold, precision=precision, sensitivity=0.5, called=10, f1=0.5)


def calibrator(**changes: object) -> Calibrator:
    values = {
        "temperature": TemperatureFacts(single=2.0, pairs=3.0, pairs_measured=True, reads=1000),
        "before": EMPTY,
        "after": EMPTY,
        "threshold": 0.6,
        "table": (cut_off(0.1, 0.7), cut_off(0.5, 0.92), cut_off(0.6, 0.91), cut_off(0.9, 0.97)),
        **changes,
    }
    return Calibrator(CalibrationFacts(**values))


def refusing(score: str, cutoff: float | None) -> Calibrator:
    figures = {score: ScoreFacts(auroc=0.9, false_calls_at_95=0.3)}
    return calibrator(refusal=RefusalFacts(score=score, cutoff=cutoff, figures=figures, known=9, unknown=9, folds=3))


def test_a_model_without_calibration_has_the_plain_softmax_and_refuses_nothing():
    plain = Calibrator(None)
    assert (plain.calibrated, plain.threshold, plain.cutoff, plain.needs_embedding) == (False, 0.0, None, False)
    expected = probabilities_of(SCORES)
    assert plain.probabilities(SCORES, TOKENS).tobytes() == expected.tobytes()
    assert plain.novelty(SCORES, None, tokens=TOKENS) is None


def test_scores_are_divided_by_the_temperature():
    np.testing.assert_allclose(calibrator().probabilities(SCORES, TOKENS), probabilities_of(SCORES / 2), rtol=1e-6)


def test_pairs_have_a_temperature_of_their_own():
    pair = summed(SCORES, SCORES[::-1])
    np.testing.assert_allclose(
        calibrator().probabilities(pair, TOKENS, mates=2), probabilities_of((SCORES + SCORES[::-1]) / 3), rtol=1e-5
    )


def test_lengths_have_temperatures_of_their_own():
    by_length = TemperatureFacts(
        single=2.0, by_length=((0, 4.0), (50, 1.0)), pairs=3.0, pairs_measured=True, reads=1000
    )
    found = calibrator(temperature=by_length).probabilities(SCORES, TOKENS)
    np.testing.assert_allclose(found[0], probabilities_of(SCORES[:1] / 4)[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], probabilities_of(SCORES[1:])[0], rtol=1e-6)


def test_probabilities_do_not_depend_on_the_reads_beside():
    both = calibrator().probabilities(SCORES, TOKENS)
    assert calibrator().probabilities(SCORES[1:], TOKENS[1:]).tobytes() == both[1:].tobytes()


def test_a_precision_asked_for_is_the_lowest_cut_off_that_gave_it():
    assert calibrator().threshold_for(0.9) == 0.5
    assert calibrator().threshold_for(0.95) == 0.9


def test_a_precision_that_was_never_reached_is_told_with_the_best_one():
    with pytest.raises(ConfigError, match=r"--target-precision 0.99: .* the best is 0.9700, with --confidence 0.9"):
        calibrator().threshold_for(0.99)


def test_a_precision_cannot_be_asked_of_a_model_that_is_not_calibrated():
    with pytest.raises(ConfigError, match="needs a calibrated model"):
        Calibrator(None).threshold_for(0.9)


def test_novelty_by_each_score():
    energy = refusing("energy", -1.0).novelty(SCORES, None, tokens=TOKENS)
    np.testing.assert_allclose(energy, -np.log(np.exp(SCORES.astype(np.float64)).sum(axis=1)), rtol=1e-6)
    probability = refusing("probability", 0.5).novelty(SCORES, None, tokens=TOKENS)
    np.testing.assert_allclose(probability, 1 - probabilities_of(SCORES / 2).max(axis=1), rtol=1e-5)
    centroid = refusing("centroid", 9.0)
    assert centroid.needs_embedding
    assert centroid.novelty(SCORES, np.array([1.5, 12.0], np.float32), tokens=TOKENS).tolist() == [1.5, 12.0]


def test_a_score_without_a_cut_off_refuses_nothing():
    centroid = refusing("centroid", None)
    assert (centroid.needs_embedding, centroid.cutoff) == (False, None)
    assert centroid.novelty(SCORES, None, tokens=TOKENS) is None


def test_facts_come_back_from_json_as_they_were():
    facts = refusing("energy", -1.25).facts
    assert CalibrationFacts.model_validate_json(facts.model_dump_json()) == facts
