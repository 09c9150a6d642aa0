import numpy as np

from metagene_classifier.metrics.classification import metrics_of_calls
from metagene_classifier.report.cautions import evaluation_cautions, training_cautions, unclassified_caution


def metrics_of(truth, called, labels):
    truth, called = np.array(truth), np.array(called)
    return metrics_of_calls(truth, called, np.full(len(truth), 0.5), labels, areas=None, areas_undefined="no scores")


def test_classes_without_reads_with_few_and_never_called_are_named():
    lines = evaluation_cautions(metrics_of([0] * 30 + [1] * 5, [0] * 35, ["E. coli", "phiX174", "host"]))
    assert lines == [
        "1 of 3 classes has no read here and counts in no average: host",
        "1 class with reads is never called: phiX174",
        "1 class with fewer than 20 reads here, whose figures are rough: phiX174",
        "AUROC: no scores",
    ]


def test_five_are_named_and_the_rest_counted():
    (line, _, _) = evaluation_cautions(metrics_of([0], [0], [f"class {number}" for number in range(8)]))
    assert line.endswith("class 1, class 2, class 3, class 4, class 5 and 2 more")


def test_classes_of_very_different_size_are_told_unless_the_loss_evens_them_out():
    sizes, validated = np.array([1000, 100, 0]), np.array([10, 10, 0])
    (line,) = training_cautions(["a", "b", "c"], sizes, validated, weighted=False)
    assert line.startswith(
        "The classes are of very different size: a has 1,000 training reads and b 100 (10 times fewer)"
    )
    assert training_cautions(["a", "b", "c"], sizes, validated, weighted=True) == []
    assert training_cautions(["a", "b", "c"], np.array([999, 100, 0]), validated, weighted=False) == []


def test_classes_that_were_validated_and_never_trained_are_named():
    (line,) = training_cautions(["a", "b", "c"], np.array([5, 5, 0]), np.array([1, 1, 2]), weighted=False)
    assert line == "1 class with validation reads and no training read, never to be called: c"


def test_more_than_half_unclassified_is_told_with_the_commonest_reason():
    reasons = {"too short": 2, "not sure enough": 4}
    (line,) = unclassified_caution(6, 10, of="Sample a", reasons=reasons)
    assert line.startswith("Sample a: 60% of the reads are unclassified, most of them (4) because: not sure enough.")
    assert unclassified_caution(5, 10, of="Sample a", reasons=reasons) == []
    assert unclassified_caution(0, 0, of="Sample a", reasons={}) == []
