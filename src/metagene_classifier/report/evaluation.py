"""The files that an evaluation leaves: figures for programs, tables for spreadsheets, a picture and a report."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.metrics.classification import ClassificationMetrics
from metagene_classifier.report.cautions import NOT_CALIBRATED, evaluation_cautions, unclassified_caution
from metagene_classifier.report.confidence_sections import confidence_section, open_set_section
from metagene_classifier.report.confusion_plot import confusion_matrix_figure
from metagene_classifier.report.confusion_section import confusion_section
from metagene_classifier.report.drawing import save_png, svg_text
from metagene_classifier.report.evaluation_sections import (
    calls_section,
    classes_section,
    compared_section,
    groups_section,
    metric_tiles,
    ranks_section,
)
from metagene_classifier.report.page import Figure, Section, Tile, write_page
from metagene_classifier.report.plots import training_curves_figure
from metagene_classifier.report.quality_plots import Bins
from metagene_classifier.whole_files import whole_file

if TYPE_CHECKING:
    from metagene_classifier.metrics.open_set import OpenSetFigures
    from metagene_classifier.model.calibration import CalibrationFacts
    from metagene_classifier.prediction.evaluation import Evaluation

__all__ = ["EVALUATION_FILES", "write_evaluation"]

EVALUATION_FILES = (
    "metrics.json",
    "per_class.csv",
    "per_rank.csv",
    "groups.csv",
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
    evaluation: Evaluation | None = None,
    tree: ClassTree | None = None,
    calibration: CalibrationFacts | None = None,
    open_set: Mapping[str, OpenSetFigures] | None = None,
) -> None:
    """Write ``metrics.json`` and ``report.html``, and as asked the other tables and the picture.

    Args:
        output_dir: made where it does not exist.
        metrics: the figures; the labels are those of its classes.
        title: the report's heading.
        facts: names and values that the report shows as what ran.
        warnings: lines that the report shows above everything; those that the figures give are added.
        confusion_matrix: write ``confusion_matrix.csv`` (rows are the truth) and ``confusion_matrix.png``.
        per_class_report: write ``per_class.csv``.
        history: the training log, for the curves; see :func:`training_curves_figure`.
        primary: the metric of the curves.
        evaluation: more figures than ``metrics``: calls with refusal, ranks, kinds of reads, other classifiers. They
            go into ``metrics.json``, ``per_rank.csv`` and ``groups.csv`` too.
        tree: of the classes, for ranks and lineages.
        calibration: of the model; without it the report says that the model is not calibrated.
        open_set: figures of left-out taxa, where ``evaluation`` has none.

    Raises:
        OutputError: a file cannot be written.
    """
    labels = [one.label for one in metrics.per_class]
    figures = metrics.as_dict() | (evaluation.as_dict() if evaluation is not None else {})
    with whole_file(output_dir / "metrics.json") as handle:
        json.dump(figures, handle, indent=2, allow_nan=False, ensure_ascii=False)
        handle.write("\n")
    sections = []
    if history:
        curves = svg_text(training_curves_figure(history, primary))
        sections.append(Section("Training", [Figure("Loss, metric and learning rate", curves)]))
    if evaluation is not None:
        sections.append(calls_section(evaluation.open, evaluation.reasons, evaluation.threshold))
        sections.append(compared_section(evaluation.open, evaluation.compared))
        sections.append(ranks_section(evaluation.ranks, evaluation.compared))
        for name, (header, rows) in {
            "per_rank.csv": evaluation.rank_table(),
            "groups.csv": evaluation.group_table(),
        }.items():
            _write_csv(output_dir / name, header, rows)
    if confusion_matrix:
        _write_csv(
            output_dir / "confusion_matrix.csv",
            ["true \\ called", *labels],
            ([label, *row] for label, row in zip(labels, metrics.confusion.tolist(), strict=True)),
        )
        save_png(confusion_matrix_figure(metrics.confusion, labels), output_dir / "confusion_matrix.png")
        sections.append(confusion_section(metrics.confusion, labels, tree))
    if per_class_report:
        _write_csv(
            output_dir / "per_class.csv",
            ["label", "precision", "recall", "f1", "support", "auroc"],
            ([one.label, one.precision, one.recall, one.f1, one.support, one.auroc] for one in metrics.per_class),
        )
    sections.append(classes_section(metrics, tree, table=per_class_report))
    sections.append(_confidence(evaluation, calibration))
    refusal = calibration.refusal if calibration is not None else None
    strangers = (evaluation.open_set if evaluation is not None else None) or open_set or {}
    sections.append(
        open_set_section(strangers, refusal.score if refusal else None, refusal.cutoff if refusal else None)
    )
    if evaluation is not None:
        sections.append(groups_section(evaluation.groups))
    write_page(
        output_dir / "report.html",
        title=title,
        facts=facts,
        warnings=[*warnings, *_cautions(metrics, evaluation, calibration)],
        tiles=[*metric_tiles(metrics), *_ece_tile(evaluation, calibration)],
        sections=sections,
    )


def _confidence(evaluation: Evaluation | None, calibration: CalibrationFacts | None) -> Section:
    if evaluation is not None:
        bins = evaluation.reliability
        return confidence_section(bins.before, bins.after, calibration, measured_on="these reads")
    if calibration is not None:
        return confidence_section(
            calibration.before, calibration.after, calibration, measured_on="the validation reads that it was fitted on"
        )
    return Section("Confidence", [])


def _ece_tile(evaluation: Evaluation | None, calibration: CalibrationFacts | None) -> list[Tile]:
    before: Bins | None = None
    after: Bins | None = None
    if evaluation is not None:
        before, after = evaluation.reliability.before, evaluation.reliability.after
    elif calibration is not None:
        before, after = calibration.before, calibration.after
    if before is None:
        return []
    if after is None:
        return [Tile("ECE", f"{before.ece:.4f}", "not calibrated")]
    return [Tile("ECE", f"{after.ece:.4f}", f"{before.ece:.4f} before calibration")]


def _cautions(
    metrics: ClassificationMetrics, evaluation: Evaluation | None, calibration: CalibrationFacts | None
) -> list[str]:
    lines = evaluation_cautions(metrics)
    if evaluation is not None:
        figures = evaluation.open
        lines += unclassified_caution(
            figures.unclassified, figures.reads, of="With refusal", reasons=evaluation.reasons
        )
    if calibration is None:
        lines.append(NOT_CALIBRATED)
    return lines


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with whole_file(path) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
