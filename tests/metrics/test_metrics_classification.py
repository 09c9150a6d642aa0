import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from metagene_classifier.errors import DataError
from metagene_classifier.metrics.auroc import one_vs_rest_auroc
from metagene_classifier.metrics.classification import classification_metrics

LABELS = ["E. coli", "S. aureus", "Influenza A"]


def certain(calls, classes, sure=0.8):
    """Probabilities whose largest is at the call."""
    probabilities = np.full((len(calls), classes), (1 - sure) / (classes - 1), dtype=np.float32)
    probabilities[np.arange(len(calls)), calls] = sure
    return probabilities


def test_figures_of_six_reads_by_hand():
    #        E. coli: 2 of 3 right   S. aureus: 1 of 2   Influenza A: 1 of 1
    truth = np.array([0, 0, 0, 1, 1, 2])
    calls = np.array([0, 0, 1, 1, 2, 2])
    metrics = classification_metrics(truth, certain(calls, 3), LABELS)
    assert metrics.reads == 6
    assert metrics.classes == 3
    assert metrics.confusion.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert metrics.confusion.dtype == np.int64
    assert metrics.accuracy == pytest.approx(4 / 6)
    ecoli, saureus, influenza = metrics.per_class
    assert (ecoli.precision, ecoli.recall, ecoli.f1, ecoli.support) == pytest.approx((1, 2 / 3, 0.8, 3))
    assert (saureus.precision, saureus.recall, saureus.f1, saureus.support) == pytest.approx((1 / 2, 1 / 2, 1 / 2, 2))
    assert (influenza.precision, influenza.recall, influenza.f1) == pytest.approx((1 / 2, 1, 2 / 3))
    assert metrics.macro_f1 == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert metrics.micro_f1 == pytest.approx(4 / 6)
    assert metrics.weighted_f1 == pytest.approx((3 * 0.8 + 2 * 0.5 + 2 / 3) / 6)
    # Gorodkin's R_K: (c*s - sum p_k t_k) / sqrt((s^2 - sum p_k^2)(s^2 - sum t_k^2)), p = (2, 2, 2), t = (3, 2, 1).
    assert metrics.mcc == pytest.approx((4 * 6 - 12) / math.sqrt((36 - 12) * (36 - 14)))
    assert metrics.loss == pytest.approx(-(4 * math.log(0.8) + 2 * math.log(0.1)) / 6, rel=1e-5)
    # E. coli: its reads score .8 .8 .1 and the other three .1: two win all three pairs, one ties three.
    assert ecoli.auroc == pytest.approx((3 + 3 + 1.5) / 9)


def test_a_perfect_model():
    truth = np.array([0, 1, 2, 1])
    metrics = classification_metrics(truth, certain(truth, 3, sure=1.0), LABELS)
    assert metrics.accuracy == metrics.macro_f1 == metrics.weighted_f1 == metrics.mcc == metrics.auroc == 1
    assert metrics.loss == 0


def test_a_class_without_reads_keeps_its_row_and_is_named():
    metrics = classification_metrics(np.array([0, 0, 1]), certain(np.array([0, 2, 1]), 3), LABELS)
    assert metrics.confusion.shape == (3, 3)
    assert metrics.classes_absent == ("Influenza A",)
    assert metrics.per_class[2].support == 0
    assert metrics.per_class[2].auroc is None
    assert metrics.macro_f1 == pytest.approx((2 / 3 + 1) / 2), "over the two classes that occur in the truth"
    assert metrics.auroc is not None
    assert metrics.as_dict()["classes_absent"] == ["Influenza A"]


def test_reads_of_one_class_only_leave_auroc_undefined_with_the_reason():
    metrics = classification_metrics(np.array([1, 1]), certain(np.array([1, 1]), 3), LABELS)
    assert metrics.auroc is None
    assert metrics.auroc_undefined == "needs reads of at least two classes"
    assert metrics.mcc == 0
    assert metrics.as_dict()["auroc"] is None


def test_auroc_is_left_out_when_not_asked_for():
    metrics = classification_metrics(np.array([0, 1]), certain(np.array([0, 1]), 3), LABELS, compute_auroc=False)
    assert metrics.auroc is None
    assert metrics.auroc_undefined == "not computed"


def test_two_classes():
    truth = np.array([0, 0, 1, 1])
    second = np.array([0.1, 0.4, 0.35, 0.8], dtype=np.float32)
    metrics = classification_metrics(truth, np.stack([1 - second, second], axis=1), ["host", "virus"])
    assert metrics.auroc == pytest.approx(0.75)
    assert [one.auroc for one in metrics.per_class] == pytest.approx([0.75, 0.75])


def test_a_true_class_of_probability_zero_gives_a_finite_loss():
    metrics = classification_metrics(np.array([0]), np.array([[0, 1, 0]], dtype=np.float32), LABELS)
    assert 80 < metrics.loss < 90


def test_the_dict_is_json_without_nan():
    metrics = classification_metrics(np.array([0, 0]), certain(np.array([0, 1]), 3), LABELS)
    text = json.dumps(metrics.as_dict(), allow_nan=False)
    assert json.loads(text)["per_class"][2] == {
        "label": "Influenza A",
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "support": 0,
        "auroc": None,
    }


def test_a_diverged_model_is_told_with_the_read():
    probabilities = certain(np.array([0, 1, 2]), 3)
    probabilities[1] = np.nan
    with pytest.raises(DataError, match=r"1 of 3 reads are not numbers \(the first is read 2\).*lower learning rate"):
        classification_metrics(np.array([0, 1, 2]), probabilities, LABELS)


def test_no_reads():
    with pytest.raises(DataError, match="no reads to score"):
        classification_metrics(np.zeros(0, dtype=np.int64), np.zeros((0, 3), dtype=np.float32), LABELS)


@pytest.mark.parametrize(
    ("truth", "probabilities"),
    [
        (np.array([0, 3]), certain(np.array([0, 1]), 3)),
        (np.array([0]), certain(np.array([0, 1]), 3)),
        (np.array([0, 1]), np.array([[4.0, -1.0, 2.0], [0.0, 1.0, 9.0]])),
    ],
    ids=["class out of range", "lengths differ", "logits"],
)
def test_arrays_that_do_not_fit_are_refused(truth, probabilities):
    with pytest.raises(ValueError):
        classification_metrics(truth, probabilities, LABELS)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_figures_equal_scikit_learns_on_any_reads(data):
    classes = data.draw(st.integers(2, 5))
    truth = data.draw(hnp.arrays(np.int64, st.integers(2, 30), elements=st.integers(0, classes - 1)))
    # Few distinct scores, so that ties are common.
    scores = data.draw(hnp.arrays(np.float32, (len(truth), classes), elements=st.sampled_from([1, 2, 3, 5])))
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    metrics = classification_metrics(truth, probabilities, [str(i) for i in range(classes)])
    present = np.unique(truth)
    called = probabilities.argmax(axis=1)
    assert metrics.macro_f1 == pytest.approx(f1_score(truth, called, labels=present, average="macro", zero_division=0))
    assert metrics.loss == pytest.approx(log_loss(truth, probabilities, labels=range(classes)), rel=1e-4)
    assert metrics.confusion.sum() == len(truth)
    assert metrics.micro_f1 == pytest.approx(metrics.accuracy)
    areas = one_vs_rest_auroc(truth, probabilities)
    for label in range(classes):
        if 0 < (truth == label).sum() < len(truth):
            assert areas[label] == pytest.approx(roc_auc_score(truth == label, probabilities[:, label]))
        else:
            assert math.isnan(areas[label])


def test_classes_beyond_one_block_of_the_sort(monkeypatch):
    monkeypatch.setattr("metagene_classifier.metrics.auroc._BLOCK_SCORES", 400)
    rng = np.random.default_rng(5)
    truth, scores = rng.permutation(np.arange(100) % 30), rng.random((100, 30), dtype=np.float32)
    expected = [roc_auc_score(truth == label, scores[:, label]) for label in range(30)]
    assert one_vs_rest_auroc(truth, scores) == pytest.approx(expected)
