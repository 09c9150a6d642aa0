"""The files that an evaluation leaves: figures for programs, tables for spreadsheets, a picture and a report."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metagene_classifier.metrics.classification import ClassificationMetrics
from metagene_classifier.report.confusion_plot import confusion_matrix_figure
from metagene_classifier.report.drawing import save_png, svg_text
from metagene_classifier.report.html import write_report
from metagene_classifier.report.plots import per_class_figure, reads_per_class_figure, training_curves_figure
from metagene_classifier.whole_files import whole_file

__all__ = ["EVALUATION_FILES", "write_evaluation"]

EVALUATION_FILES = (
    "metrics.json",
    "per_class.csv",
    "confusion_matrix.csv",
    "confusion_matrix.png",
    "predictions.csv",
    "report.html",
)
"""All that an evaluation leaves in its folder; the predictions are written while the reads are scored."""


def write_evaluation(
    output_dir: Path,
    *,
    metrics: ClassificationMetrics,
    title: str = "Evaluation",
    facts: Mapping[str, str],
    warnings: Sequence[str] = (),
    confusion_matrix: bool = True,
    per_class_report: bool = True,
    history: Sequence[Mapping[str, Any]] | None = None,
    primary: str = "macro_f1",
) -> None:
    """Write ``metrics.json`` and ``report.html``, and as asked the confusion matrix and the table of classes.

    Args:
        output_dir: made where it does not exist.
        metrics: the figures; the labels are those of its classes.
        title: the report's heading.
        facts: names and values that the report shows first.
        warnings: lines that the report shows above everything; classes without reads are added to them.
        confusion_matrix: write ``confusion_matrix.csv`` (rows are the truth) and ``confusion_matrix.png``.
        per_class_report: write ``per_class.csv``.
        history: the training log, for the curves; see :func:`training_curves_figure`.
        primary: the metric of the curves.

    Raises:
        OutputError: a file cannot be written.
    """
    labels = [one.label for one in metrics.per_class]
    with whole_file(output_dir / "metrics.json") as handle:
        json.dump(metrics.as_dict(), handle, indent=2, allow_nan=False, ensure_ascii=False)
        handle.write("\n")
    figures: dict[str, str] = {}
    if confusion_matrix:
        _write_csv(
            output_dir / "confusion_matrix.csv",
            ["true \\ called", *labels],
            ([label, *row] for label, row in zip(labels, metrics.confusion.tolist(), strict=True)),
        )
        figure = confusion_matrix_figure(metrics.confusion, labels)
        save_png(figure, output_dir / "confusion_matrix.png")
        figures["Confusion matrix"] = svg_text(figure)
    if per_class_report:
        _write_csv(
            output_dir / "per_class.csv",
            ["label", "precision", "recall", "f1", "support", "auroc"],
            ([one.label, one.precision, one.recall, one.f1, one.support, one.auroc] for one in metrics.per_class),
        )
        figures["Precision, recall and F1"] = svg_text(per_class_figure(metrics.per_class))
    counts = {"true class": metrics.confusion.sum(axis=1), "called": metrics.confusion.sum(axis=0)}
    figures["Reads of each class"] = svg_text(reads_per_class_figure(counts, labels))
    if history:
        figures["Training"] = svg_text(training_curves_figure(history, primary))
    write_report(
        output_dir / "report.html",
        title=title,
        facts=facts,
        metrics=metrics,
        per_class=per_class_report,
        figures=figures,
        warnings=[*warnings, *_own_warnings(metrics)],
    )


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with whole_file(path) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _own_warnings(metrics: ClassificationMetrics) -> list[str]:
    lines = []
    if absent := metrics.classes_absent:
        named = ", ".join(absent[:5]) + (", …" if len(absent) > 5 else "")
        lines.append(
            f"{len(absent):,} of {metrics.classes:,} classes have no read here and count in no average: {named}"
        )
    if metrics.auroc_undefined:
        lines.append(f"AUROC: {metrics.auroc_undefined}")
    return lines
