import csv
import json

import matplotlib.image
import numpy as np
import pytest

from metagene_classifier.metrics.classification import classification_metrics
from metagene_classifier.report.evaluation import write_evaluation

LABELS = ["E. coli", "Influenza A, H1N1", 'the "third"']
TRUTH = np.array([0, 0, 0, 1])
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]], dtype=np.float32)


@pytest.fixture
def metrics():
    return classification_metrics(TRUTH, PROBABILITIES, LABELS)


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.reader(handle))


def test_evaluation_writes_every_file(tmp_path, metrics):
    folder = tmp_path / "new" / "evaluation"
    history = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5, "eval_macro_f1": 0.7}]
    write_evaluation(folder, metrics=metrics, facts={"Model": "demo"}, warnings=["a warning"], history=history)
    assert sorted(file.name for file in folder.iterdir()) == [
        "confusion_matrix.csv",
        "confusion_matrix.png",
        "metrics.json",
        "per_class.csv",
        "report.html",
    ]
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8")) == metrics.as_dict()
    assert matplotlib.image.imread(folder / "confusion_matrix.png").shape[0] > 300
    report = (folder / "report.html").read_text(encoding="utf-8")
    for heading in ("Confusion matrix", "Precision, recall and F1", "Reads of each class", "Training", "a warning"):
        assert heading in report


def test_tables_read_back_with_any_label(tmp_path, metrics):
    write_evaluation(tmp_path, metrics=metrics, facts={})
    header, *rows = rows_of(tmp_path / "confusion_matrix.csv")
    assert header[1:] == LABELS
    assert rows == [[LABELS[0], "2", "1", "0"], [LABELS[1], "0", "1", "0"], [LABELS[2], "0", "0", "0"]]
    header, *rows = rows_of(tmp_path / "per_class.csv")
    assert header == ["label", "precision", "recall", "f1", "support", "auroc"]
    assert [float(value) for value in rows[0][1:5]] == pytest.approx([1, 2 / 3, 0.8, 3])
    assert rows[2] == [LABELS[2], "0.0", "0.0", "0.0", "0", ""]


def test_classes_without_reads_are_told_in_the_report(tmp_path, metrics):
    write_evaluation(tmp_path, metrics=metrics, facts={})
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1 of 3 classes has no read here and counts in no average: the &#34;third&#34;" in report


def test_undefined_auroc_is_told_with_its_reason(tmp_path):
    one_class = classification_metrics(TRUTH[:2], PROBABILITIES[:2], LABELS)
    write_evaluation(tmp_path, metrics=one_class, facts={})
    assert "AUROC: needs reads of at least two classes" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_is_not_asked_for_is_not_written(tmp_path, metrics):
    write_evaluation(tmp_path, metrics=metrics, facts={}, confusion_matrix=False, per_class_report=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["metrics.json", "report.html"]
