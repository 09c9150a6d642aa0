from html.parser import HTMLParser

import numpy as np
import pytest

from metagene_classifier.errors import OutputError
from metagene_classifier.metrics.classification import classification_metrics
from metagene_classifier.report.confusion_plot import confusion_matrix_figure
from metagene_classifier.report.drawing import svg_text
from metagene_classifier.report.html import write_report

HOSTILE = "<script>alert('x')</script>"


def metrics_of(labels):
    truth = np.arange(len(labels)) % max(1, len(labels) - 1)
    probabilities = np.full((len(labels), len(labels)), 0.1 / (len(labels) - 1), dtype=np.float32)
    probabilities[np.arange(len(labels)), truth] = 0.9
    return classification_metrics(truth, probabilities, labels)


class Page(HTMLParser):
    """Tags with attributes, in order; fails on tags that do not close in order."""

    VOID = frozenset({"meta", "input", "br", "image", "path", "use", "rect"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())


def written(tmp_path, **given):
    arguments = {"title": "Evaluation", "facts": {}} | given
    write_report(tmp_path / "report.html", **arguments)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_report_shows_facts_figures_warnings_and_every_class(tmp_path):
    labels = ["E. coli", "S. aureus", "Influenza A"]
    metrics = metrics_of(labels)
    text = written(
        tmp_path,
        title="Evaluation of demo",
        facts={"Model": "runs/demo"},
        metrics=metrics,
        figures={"Confusion matrix": svg_text(confusion_matrix_figure(metrics.confusion, labels))},
        warnings=["one class has no reads"],
    )
    page = Page(text)
    assert {"Evaluation of demo", "runs/demo", "one class has no reads", "Confusion matrix", *labels} <= set(page.texts)
    assert f"{metrics.macro_f1:.4f}" in page.texts
    assert sum(tag == "tr" for tag, _ in page.tags) == 1 + len(labels)
    assert sum(tag == "svg" for tag, _ in page.tags) == 1


def test_whatever_a_label_or_a_file_is_called_no_markup_of_theirs_gets_in(tmp_path):
    labels = [HOSTILE, "b", '"><img src=x onerror=alert(1)>']
    metrics = metrics_of(labels)
    text = written(
        tmp_path,
        title=HOSTILE,
        facts={HOSTILE: HOSTILE},
        metrics=metrics,
        figures={HOSTILE: svg_text(confusion_matrix_figure(metrics.confusion, labels))},
        calls={HOSTILE: 3},
        warnings=[HOSTILE],
    )
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 1, "ours alone"
    assert not any(tag == "img" for tag, _ in page.tags)
    assert "alert('x')" not in page.texts
    assert HOSTILE in page.texts, "it is shown as it is written"


def test_report_needs_no_network(tmp_path):
    metrics = metrics_of(["a", "b"])
    figures = {"Confusion": svg_text(confusion_matrix_figure(metrics.confusion, ["a", "b"]))}
    page = Page(written(tmp_path, metrics=metrics, figures=figures))
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe")
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))


def test_report_of_calls_without_truth(tmp_path):
    page = Page(written(tmp_path, calls={"unclassified": 25, "E. coli": 1975}))
    rows = page.texts[page.texts.index("Label") :]
    assert rows == ["Label", "Reads", "Share", "E. coli", "1,975", "98.75%", "unclassified", "25", "1.25%"]
    assert "Macro F1" not in page.texts


def test_undefined_auroc_is_a_dash_and_columns_can_be_sorted_from_the_keyboard(tmp_path):
    truth, probabilities = np.array([0, 0]), np.array([[0.9, 0.1], [0.8, 0.2]])
    page = Page(written(tmp_path, metrics=classification_metrics(truth, probabilities, ["a", "b"])))
    assert "–" in page.texts
    assert sum(tag == "button" for tag, _ in page.tags) == 7


def test_table_of_classes_can_be_left_out(tmp_path):
    page = Page(written(tmp_path, metrics=metrics_of(["a", "b"]), per_class=False))
    assert not any(tag == "table" for tag, _ in page.tags)


def test_a_folder_in_the_way_is_told(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        written(tmp_path)
