import csv
import json

import matplotlib.image
import numpy as np
import pytest
from tests.report.pages import Page

from metagene_classifier.metrics.calibration import reliability
from metagene_classifier.metrics.calls import call_figures
from metagene_classifier.metrics.classification import classification_metrics
from metagene_classifier.metrics.groups import GroupFigures, GroupRow
from metagene_classifier.metrics.open_set import FoldNovelty, open_set_figures
from metagene_classifier.metrics.ranks import ProfileFigures, RankFigures
from metagene_classifier.model.calibration import (
    CalibrationFacts,
    CutOff,
    RefusalFacts,
    ReliabilityFacts,
    ScoreFacts,
    TemperatureFacts,
)
from metagene_classifier.prediction.compare import ComparedFigures
from metagene_classifier.prediction.evaluation import Evaluation
from metagene_classifier.prediction.evaluation_tally import ReadReliability
from metagene_classifier.prediction.profile.estimate import Profile
from metagene_classifier.report.evaluation import EVALUATION_FILES, write_evaluation

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
    for heading in ("Confusion matrix", "All classes", "Reads of each class", "Training", "a warning"):
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


def calibration_facts():
    bins = ReliabilityFacts(edges=(0.0, 0.5, 1.0), reads=(10, 90), confidence=(0.4, 0.9), accuracy=(0.3, 0.8), ece=0.1)
    return CalibrationFacts(
        temperature=TemperatureFacts(single=1.25, pairs=2.5, pairs_measured=False, reads=100),
        before=bins,
        after=bins.model_copy(update={"ece": 0.0125}),
        threshold=0.75,
        table=(
            CutOff(threshold=0.5, precision=0.9, sensitivity=0.8, called=90, f1=0.7),
            CutOff(threshold=0.75, precision=0.95, sensitivity=0.7, called=75, f1=0.75),
        ),
        refusal=RefusalFacts(
            score="energy",
            cutoff=None,
            figures={"energy": ScoreFacts(auroc=0.875, false_calls_at_95=0.25)},
            known=40,
            unknown=20,
            folds=2,
        ),
    )


def open_set():
    folds = [FoldNovelty(("E. coli",), np.arange(20.0), np.arange(10.0, 30.0))]
    return {score: open_set_figures(score, folds) for score in ("probability", "energy")}


def figures_at(rank, completeness):
    counted = ProfileFigures(l1=0.25, bray_curtis=0.125, completeness=1.0, purity=1.0, f1=1.0)
    return RankFigures(rank, 4, 3, 2, 2, completeness, 0.5, 0.625, 1 / 3, 0.5, counted, None)


def evaluation_of(metrics, **changes):
    calls = call_figures(correct=2, vague=0, wrong=1, unclassified=1)
    bins = reliability(np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 1, 0, 1]))
    given = {
        "metrics": metrics,
        "warnings": [],
        "open": calls,
        "threshold": 0.6,
        "reasons": {"too short": 1},
        "ranks": (figures_at("genus", 0.75), figures_at("species", 0.4375)),
        "reliability": ReadReliability(bins, None),
        "groups": (GroupFigures("length", (GroupRow("100 to 149 bp", 4, 3, 2, 0.5, 2 / 3, 0.5),)),),
        "compared": (
            ComparedFigures(
                "Kraken 2",
                "k2.out",
                3,
                0,
                call_figures(correct=1, vague=1, wrong=0, unclassified=2),
                (figures_at("genus", 0.3125),),
                ("2 of its taxids were merged",),
            ),
        ),
        "open_set": {},
        "profile": Profile("", (), 4, 1, None, None, None, 0, "counts", ()),
    } | changes
    return Evaluation(**given)


def texts_of(folder):
    return " ".join(Page.of(folder / "report.html").texts)


def test_calls_ranks_kinds_of_reads_and_other_classifiers_are_shown(tmp_path, metrics):
    write_evaluation(tmp_path, metrics=metrics, facts={}, evaluation=evaluation_of(metrics))
    texts = texts_of(tmp_path)
    assert "at the threshold 0.6" in texts
    assert "Called 75.00% 3 reads Precision 0.6667 Sensitivity 0.5000" in texts
    assert "too short 1 25.00%" in texts
    assert "this model 3 2 0 1 1 0.6667 0.5000" in texts
    assert "Kraken 2 2 1 1 0 2 1.0000 0.2500 0.4000 3" in texts
    assert "Kraken 2: k2.out 2 of its taxids were merged" in texts.replace("  ", " ")
    assert "this model genus 2 75.00% 0.7500 0.5000 0.6250 33.33% 0.5000 0.2500 0.1250" in texts
    assert "Kraken 2 genus 2 75.00% 0.3125" in texts
    assert "length 100 to 149 bp 4 75.00% 0.6667 0.5000 0.5000" in texts


def test_new_figures_go_into_json_and_tables(tmp_path, metrics):
    evaluation = evaluation_of(metrics)
    write_evaluation(tmp_path, metrics=metrics, facts={}, evaluation=evaluation)
    values = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert values == metrics.as_dict() | evaluation.as_dict()
    assert [row[:2] for row in rows_of(tmp_path / "per_rank.csv")[1:]] == [
        ["this model", "genus"],
        ["this model", "species"],
        ["Kraken 2", "genus"],
    ]
    assert rows_of(tmp_path / "groups.csv")[1][:3] == ["length", "100 to 149 bp", "4"]
    assert {file.name for file in tmp_path.iterdir()} | {"predictions.csv"} == set(EVALUATION_FILES)


def test_calibration_thresholds_and_strangers_are_shown(tmp_path, metrics):
    write_evaluation(tmp_path, metrics=metrics, facts={}, calibration=calibration_facts(), open_set=open_set())
    texts = texts_of(tmp_path)
    assert "ECE 0.0125 0.1000 before calibration" in texts
    assert "a temperature of 1.250, fitted on 100 validation reads" in texts
    assert "divided by 2.500 (not measured" in texts
    assert "Energy of the scores is the best of the scores, but adds nothing to the threshold." in texts
    # 20 known reads 0 to 19, 20 strangers 10 to 29: of 400 pairs 45 are the wrong way round and 10 even.
    assert "Energy of the scores 0.8750 " in texts
    assert "default 0.75" in texts
    assert "not calibrated" not in texts


def test_a_model_without_calibration_is_told(tmp_path, metrics):
    write_evaluation(tmp_path, metrics=metrics, facts={}, evaluation=evaluation_of(metrics))
    texts = texts_of(tmp_path)
    assert "This model is not calibrated" in texts
    assert "ECE" in texts


def test_mostly_unclassified_reads_are_told(tmp_path, metrics):
    calls = call_figures(correct=1, vague=0, wrong=0, unclassified=3)
    evaluation = evaluation_of(metrics, open=calls, reasons={"not sure enough": 3}, compared=(), ranks=())
    write_evaluation(tmp_path, metrics=metrics, facts={}, evaluation=evaluation)
    texts = texts_of(tmp_path)
    assert "With refusal: 75% of the reads are unclassified, most of them (3) because: not sure enough" in texts
    assert "Other classifiers" not in texts
    assert "Ranks" not in texts
